"""Bad input to the trainer's command line: its message, exit code 2, and nothing written."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny_model import TINY, write_lora, write_model
from uno_jax import train
from uno_jax.families.uno.config import UnoPE

RECIPE = """
from uno_jax.families.uno.config import LoraConfig
from uno_jax.training.config import DataConfig, TrainConfig
def get_config():
    return TrainConfig(workdir="run", preset="tiny", weights="weights", data=DataConfig(path="pairs.json"),
                       lora=LoraConfig(rank=4), batch_size=1, steps=1)
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    write_model(folder / "weights")
    write_lora(folder / "lora", UnoPE("h"))
    return folder


@pytest.fixture
def here(shared, tmp_path, monkeypatch) -> Path:
    """A working directory with a good recipe, list, weights and LoRA, of which a case breaks one."""
    monkeypatch.chdir(tmp_path)
    for name in ("weights", "lora"):
        (tmp_path / name).symlink_to(shared / name)
    (tmp_path / "recipe.py").write_text(RECIPE)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    write_list([{"prompt": "a", "image_paths": ["a.png"], "image_tgt_path": "a.png"}])
    return tmp_path


def write_list(entries) -> None:
    Path("pairs.json").write_text(json.dumps(entries))


def fails(capsys, *args: str) -> str:
    """The message of a run that must fail before it writes anything."""
    with pytest.raises(SystemExit) as stopped:
        train.main([*args])
    assert stopped.value.code == 2
    assert not Path("run").exists()
    message = capsys.readouterr().err
    assert "error: " in message and "Traceback" not in message
    return message


SAMPLES = ("--config", "recipe.py", "--samples.every", "2", "--samples.jobs")
ARGUMENTS = [
    ((), "no recipe: pass --config FILE"),
    (("--config", "missing.py"), "no recipe missing.py: expected a file, or one of small_base.py"),
    (("--config", "a.png.py"), "no recipe a.png.py"),
    (("--config", "recipe.py", "--stepz", "3"), "--stepz"),
    (("--config", "recipe.py", "--steps", "many"), "many"),
    (("--config", "recipe.py", "--steps", "0"), "steps must be at least 1"),
    (("--config", "recipe.py", "--batch-size", "0"), "--batch-size must be at least 1"),
    (("--config", "recipe.py", "--preset", "flux_max"), "preset must be one of flux_dev"),
    (("--config", "recipe.py", "--data.path", ""), "data.path is empty"),
    (("--config", "recipe.py", "--data.path", "nowhere.json"), "no list of records at nowhere.json"),
    (("--config", "recipe.py", "--data.text-dropout", "2"), "--data.text-dropout must be at most 1, got 2.0"),
    (("--config", "recipe.py", "--completion", "-1"), "--completion must be at least 0, got -1.0"),
    (("--config", "recipe.py", "--data.resolution", "16"), "--data.resolution must be at least 32, got 16"),
    (
        ("--config", "recipe.py", "--optim.learning-rate", "-1"),
        "--optim.learning-rate must be more than 0, got -1.0",
    ),
    (("--config", "recipe.py", "--weights", "elsewhere"), "no model directory elsewhere"),
    (("--config", "recipe.py", "--weights", ""), "mmdit is frozen and has no weights"),
    (("--config", "recipe.py", "--trainable", "lora/nothing"), "pattern 'lora/nothing' matches no parameter"),
    (("--config", "recipe.py", "--trainable", "vae/.*"), "the flow objective cannot train vae"),
    (
        ("--config", "recipe.py", "--trainable", "mmdit.*"),
        "trainable 'mmdit.*' must begin with one of mmdit/",
    ),
    (
        ("--config", "recipe.py", "--trainable", "(t5|vae)/.*"),
        "trainable '(t5|vae)/.*' must begin with one of",
    ),
    (("--config", "recipe.py", "--trainable", "lora/("), "trainable 'lora/(' is not a regular expression"),
    (
        ("--config", "recipe.py", "--processes.coordinator", "host"),
        "processes.coordinator must be HOST:PORT, or auto, got 'host'",
    ),
    (("--config", "recipe.py", "--keep-checkpoints", "0"), "--keep-checkpoints must be at least 1, got 0"),
    (("--config", "recipe.py", "--keep-every", "0"), "--keep-every must be at least 1, got 0"),
    (("--config", "recipe.py", "--workdir", "gs://team/run"), "workdir gs://team/run must be a local folder"),
    (("--config", "recipe.py", "--objective", "autoencoder"), "the autoencoder objective trains vae/"),
    (("--config", "recipe.py", "--lora.single-idx", "7"), r"LoRA adapts single_blocks [7]"),
    (("--config", "recipe.py", "--lora.rank", "0"), "rank must be at least 1"),
    (("--config", "recipe.py", "--unope.variant", "x"), "x"),
    (("--config", "recipe.py", "--unope.offset-scale", "-1"), "offset_scale must be"),
    (("--config", "recipe.py", "--init-lora", "lora"), "UnoPE h, offset scale 1"),
    (("--config", "recipe.py", "--init-lora", "weights/vae"), "expected a lora"),
    (("--config", "recipe.py", "--mesh.data", "3"), "does not fit 1 device"),
    (("--config", "recipe.py", "--profile-steps", "-1"), "--profile-steps must be at least 0, got -1"),
    (("--config", "recipe.py", "--samples.every", "-1"), "--samples.every must be at least 0, got -1"),
    (("--config", "recipe.py", "--samples.every", "2"), "samples.every needs a list of prompts"),
    (("--config", "recipe.py", "--samples.jobs", "pairs.json"), "give it too (--samples.every 500)"),
    ((*SAMPLES, "nowhere.json"), "no job list nowhere.json"),
    (
        (*SAMPLES, "pairs.json", "--samples.width", "20"),
        "samples: picture sides must be positive multiples of 16 pixels, got 20x64",
    ),
    ((*SAMPLES, "pairs.json", "--samples.steps", "0"), "--samples.steps must be at least 1"),
]


@pytest.mark.parametrize(("args", "message"), ARGUMENTS, ids=lambda value: str(value)[-40:])
def test_bad_arguments(here, capsys, args, message):
    assert message in fails(capsys, *args)


def test_samples_are_checked_with_their_guidance(here, capsys):
    Path("negative.json").write_text(json.dumps([{"prompt": "a", "negative": "b"}]))
    assert "samples: a negative prompt needs" in fails(capsys, *SAMPLES, "negative.json")


def test_samples_take_every_network(here, capsys):
    Path("weights").unlink()
    Path("weights").mkdir()
    for kind in ("mmdit", "t5", "clip"):
        Path("weights", kind).symlink_to((here / "lora").resolve().parent / "weights" / kind)
    assert "weights 'weights' lack vae" in fails(capsys, *SAMPLES, "pairs.json")


def test_wandb_must_be_there_when_it_is_asked_for(here, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install wandb" in fails(capsys, "--config", "recipe.py", "--wandb-project", "uno")


def test_a_recipe_must_return_a_config(here, capsys):
    Path("recipe.py").write_text("def get_config(): return 3\n")
    assert "must define get_config()" in fails(capsys, "--config", "recipe.py")


LISTS = [
    ({}, 'record 0: "prompt" is missing'),
    ([], "at least one"),
    ([3], "record 0: expected an object, got 3"),
    ([{"image_tgt_path": "a.png"}], '"prompt" is missing'),
    ([{"image_tgt_path": "a.png", "prompt": 3}], '"prompt" must be a string, got 3'),
    ([{"prompt": "a"}], '"image_tgt_path" is missing'),
    ([{"prompt": "a", "image_tgt_path": "a.png", "image_paths": "a.png"}], '"image_paths" must be a list'),
    ([{"prompt": "a", "image_tgt_path": "b.png"}], "no picture at b.png"),
    ([{"prompt": "a", "image_tgt_path": "a.png", "image_path": "c.png"}], "no picture at c.png"),
]


@pytest.mark.parametrize(("entries", "message"), LISTS, ids=lambda value: str(value)[:40])
def test_bad_lists(here, capsys, entries, message):
    write_list(entries)
    assert message in fails(capsys, "--config", "recipe.py")


def test_a_list_that_is_no_json(here, capsys):
    Path("pairs.json").write_text("[{")
    assert "pairs.json is not readable JSON" in fails(capsys, "--config", "recipe.py")


def test_every_bad_record_is_counted(here, capsys):
    write_list([{"prompt": "a", "image_tgt_path": "a.png"}, {}, 4, {"prompt": 1}])
    assert "has 3 bad records of 4: record 1: " in fails(capsys, "--config", "recipe.py")


def test_weights_of_another_shape(here, capsys):
    assert TINY.mmdit.hidden_size == 64
    Path("weights").unlink()
    Path("weights/mmdit").mkdir(parents=True)
    Path("weights/mmdit/config.json").write_text('{"format": 9, "kind": "mmdit"}')
    assert "has format 9" in fails(capsys, "--config", "recipe.py")
