"""Every shipped recipe loads and passes its checks; UNO's hold the paper's settings."""

import hashlib
import json
from pathlib import Path

import pytest

from uno_jax.data.config import DataConfig, SourceConfig
from uno_jax.families.uno.config import LoraConfig, UnoPE
from uno_jax.support.errors import RecipeError
from uno_jax.support.settings import to_dict
from uno_jax.training.config import TrainConfig
from uno_jax.training.config_check import check_recipe
from uno_jax.training.recipes import RecipeArgs, load_recipe, parse_recipe_args

OTHERS = ("__init__", "_ablation", "_coevolution")
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
    bad = TrainConfig(unroll=0, data=DataConfig(sources=sources))
    object.__setattr__(bad, "precision", "int4")  # the constructor's types do not allow it
    expected = "unroll must.*size of a.json .* 16, got .*precision must be bfloat16 or empty, got 'int4'"
    with pytest.raises(RecipeError, match=expected):
        check_recipe(bad)


@pytest.mark.parametrize(("name", "sizes"), [("uno", (512, 320)), ("small", (128, 128))])
def test_stage_two_starts_from_stage_one(name, sizes):
    stage1, stage2 = load_recipe(f"{name}_stage1"), load_recipe(f"{name}_stage2")
    assert stage2.init_lora == f"{stage1.workdir}/lora"
    assert (stage2.data.resolution, stage2.data.ref_resolution) == sizes
    assert (stage2.optim, stage2.lora, stage2.batch_size) == (stage1.optim, stage1.lora, stage1.batch_size)


OF_0_1 = """from uno_jax.config import *
from uno_jax.recipe import *


def get_config():
    return TrainConfig(workdir='runs/old',
                       lora=LoraConfig(rank=8, double_idx=(0,), single_idx=None),
                       unope=UnoPE(variant='w', offset_scale=2.0),
                       data=DataConfig(sources=(SourceConfig(path='a.json', weight=0.5, size=(128, 256)),)),
                       optim=OptimConfig(learning_rate=0.001),
                       mesh=MeshConfig(data=1, fsdp=-1),
                       samples=SamplesConfig(every=5, jobs='jobs.json'),
                       processes=ProcessesConfig(count=1))
"""


def test_a_recipe_file_of_version_0_1_loads(tmp_path):
    (tmp_path / "old.py").write_text(OF_0_1)
    config = load_recipe(str(tmp_path / "old.py"))
    assert type(config) is TrainConfig and config.workdir == "runs/old" and config.samples.every == 5
    assert config.lora == LoraConfig(rank=8, double_idx=(0,)) and config.unope == UnoPE("w", 2.0)
    assert config.data.sources == (SourceConfig("a.json", weight=0.5, size=(128, 256)),)


@pytest.mark.parametrize(
    ("name", "written"), [("uno_stage1", "5dc32bfbe2c7"), ("uno_stage2", "22f3de9c2fd6")]
)
def test_records_of_a_recipe_are_those_of_version_0_1(name, written):
    """Fields, their order and values: the names of an ablation's directories are made of this record."""
    settings = to_dict(load_recipe(name))
    assert settings["data"].pop("buckets") == "own"  # later than those names, which leave it out
    record = json.dumps(settings)
    assert hashlib.sha256(record.encode()).hexdigest()[:12] == written, record
