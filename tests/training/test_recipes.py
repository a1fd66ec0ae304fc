"""Every shipped recipe loads and passes its checks; UNO's hold the paper's settings."""

from pathlib import Path

import pytest

from uno_jax.data.config import DataConfig, SourceConfig
from uno_jax.families.uno.config import LoraConfig, UnoPE
from uno_jax.support.errors import RecipeError
from uno_jax.training.config import TrainConfig
from uno_jax.training.config_check import check_recipe
from uno_jax.training.recipes import RecipeArgs, load_recipe, parse_recipe_args

OTHERS = ("__init__", "_ablation")
RECIPES = sorted(path.name for path in Path("configs").glob("*.py") if not path.stem.endswith(OTHERS))


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_sound(name):
    check_recipe(load_recipe(name))


def test_stage_one_is_the_papers():
    stage1 = load_recipe("uno_stage1")
    assert (stage1.batch_size, stage1.steps, stage1.guidance, stage1.dtype) == (16, 5000, 1.0, "bfloat16")
    optim = stage1.optim
    assert (optim.learning_rate, optim.b1, optim.b2, optim.eps) == (1e-5, 0.9, 0.999, 1e-8)
    assert (optim.weight_decay, optim.clip_norm) == (0.01, 1.0)
    assert stage1.lora == LoraConfig(rank=512) and stage1.unope == UnoPE("d", 1.0)
    assert stage1.data.text_dropout == 0.1


def parse(*more):
    words = ["--config", "configs/small_stage1.py", *more]
    return parse_recipe_args(RecipeArgs, "uno-train", words).recipe


def test_a_list_named_by_hand_takes_the_place_of_the_sources():
    config = parse("--data.path", "mine.json")
    assert config.data.path == "mine.json" and config.data.sources == ()
    assert len(parse("--steps", "3").data.sources) == 2


def test_unroll_and_size_are_checked():
    sources = (SourceConfig("a.json", size=(128, 250)),)
    bad = TrainConfig(unroll=0, precision="int4", data=DataConfig(sources=sources))  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="size of a.json .* 16, got .*unroll must.*precision 'int4' is"):
        check_recipe(bad)


@pytest.mark.parametrize(("name", "sizes"), [("uno", (512, 320)), ("small", (128, 128))])
def test_stage_two_starts_from_stage_one(name, sizes):
    stage1, stage2 = load_recipe(f"{name}_stage1"), load_recipe(f"{name}_stage2")
    assert stage2.init_lora == f"{stage1.workdir}/lora"
    assert (stage2.data.resolution, stage2.data.ref_resolution) == sizes
    assert (stage2.optim, stage2.lora, stage2.batch_size) == (stage1.optim, stage1.lora, stage1.batch_size)
