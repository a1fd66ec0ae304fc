"""The model that comes with the package: what "small" names, and how a model's own LoRA is chosen."""

import json
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from tests.test_packaging import setup_cfg
from tests.tiny_model import TINY, write_lora, write_model
from tests.tools.convert_weights.command import run as convert
from uno_jax.families.uno.config import PRESETS, LoraConfig, UnoPE
from uno_jax.families.uno.family import FAMILY
from uno_jax.families.uno.settings import make_settings
from uno_jax.sample import main
from uno_jax.training.config import TrainConfig
from uno_jax.training.state import model_config, read_start_lora
from uno_jax.weights import names as shipped
from uno_jax.weights.load import load_model, read_model_config
from uno_jax.weights.loras import find_loras, read_loras

LIMIT_MB = 40
ARGUMENTS = ["--prompt", "a dog", "--steps", "1"]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shipped")
    model = write_model(folder / "model")
    write_lora(folder / "lora", UnoPE("w", 2.0))
    assert convert("pack", "--model", model, "--lora", folder / "lora", "--dst", folder / "small") == 0
    return folder / "small"


@pytest.fixture
def small(packed, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", packed)
    return packed


def settings(out: Path) -> dict:
    return json.loads(out.with_suffix(".json").read_text())


def test_small_is_the_default_and_brings_its_lora(small, tmp_path):
    main([*ARGUMENTS, "--out", str(tmp_path / "own.png")])
    made = settings(tmp_path / "own.png")
    assert (made["model"], made["lora"]) == (str(small), str(small / "lora"))
    assert (made["unope"], made["offset_scale"]) == ("w", 2.0)


def test_none_leaves_the_lora_out(small, tmp_path):
    main([*ARGUMENTS, "--lora", "none", "--out", str(tmp_path / "base.png")])
    made = settings(tmp_path / "base.png")
    assert made["lora"] is None and made["unope"] == "d"


def test_the_lora_with_a_reference_cache_has_a_name_and_fits():
    (placed,) = find_loras("small-cached:0.5", shipped.FOLDER)
    assert placed == (shipped.CACHED_FOLDER, 0.5)
    added = read_loras([placed], read_model_config("small"))
    assert added.unope == UnoPE(reference_cache=True)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("small", shipped.FOLDER / "lora"),
        ("small-cached", shipped.CACHED_FOLDER),
        ("./small", Path("small")),
        ("runs/lora", Path("runs/lora")),
    ],
)
def test_a_lora_is_found_alike_by_drawing_and_training(name, path):
    assert shipped.lora_dir(name) == path
    config = TrainConfig(weights="small", lora=LoraConfig(rank=64), init_lora=name)
    if path.exists():
        assert shipped.find_lora(name, shipped.FOLDER) == path
        cached = replace(config, unope=UnoPE(reference_cache=True))
        assert read_start_lora(cached, model_config(config)).config == config.lora


def test_a_lora_that_is_shipped_can_be_inspected(capsys):
    assert convert("inspect", "small-cached") == 0
    assert "reference_cache" in capsys.readouterr().out


@pytest.mark.slow
def test_python_loads_it_alike(small):
    assert load_model("small").unope == UnoPE("w", 2.0)
    assert load_model("small", lora=None).unope is None
    assert load_model(small, lora=small / "lora").unope == UnoPE("w", 2.0)


def test_a_directory_of_that_name_is_written_with_its_folder(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("small").mkdir()
    assert shipped.find_model("small") == small
    assert shipped.find_model("./small") == Path("small")


def test_recipes_start_from_it(small):
    config = TrainConfig(weights="small", preset="tiny")
    assert model_config(config) == TINY and config.weights_dir == small


def test_it_is_exported(small, tmp_path):
    assert convert("vae", "--src", "small", "--dst", tmp_path / "ae.safetensors") == 0
    file = tmp_path / "lora.safetensors"
    assert convert("export-lora", "--src", "small", "--dst", file, "--format", "kohya") == 0
    arguments = ("--base", "small", "--dst", tmp_path / "lora", "--unope", "w", "--offset-scale", "2")
    assert convert("lora", "--src", file, *arguments) == 0


def test_a_copy_without_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "absent")
    with pytest.raises(SystemExit) as stop:
        main([*ARGUMENTS, "--out", str(tmp_path)])
    assert stop.value.code == 2
    assert "comes without its small model" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="comes without its small model"):
        model_config(TrainConfig(weights="small"))


def test_its_files_are_installed_and_small():
    patterns = setup_cfg()["options.package_data"]["uno_jax"].split()
    files = ("config.json", "params.safetensors")
    names = [f"small/{kind}/{name}" for kind in FAMILY.networks for name in files]
    cached = [f"small_cached/{name}" for name in files]
    for name in ["small/README.md", "small/lora/params.safetensors", *cached, *names]:
        assert any(PurePosixPath(name).match(pattern) for pattern in patterns), name
    folders = shipped.FOLDER, shipped.CACHED_FOLDER
    sizes = [path.stat().st_size for each in folders for path in each.rglob("*") if path.is_file()]
    assert sum(sizes) <= LIMIT_MB * 10**6


def test_guidance_is_each_models_own():
    assert make_settings(PRESETS["small"]).guidance == 1.0
    assert make_settings(PRESETS["small"], guidance=3.0).guidance == 3.0
    assert make_settings(PRESETS["flux_dev"]).guidance == 4.0
