"""Every command that writes a place is refused while another writes there, before weights are loaded."""

import contextlib
import os

import pytest

from tests.tiny_model import write_lora, write_model
from tests.tiny_run import write_pairs
from tools.convert_weights.__main__ import main as convert
from uno_jax.ablate import main as ablate
from uno_jax.coevolve import main as coevolve
from uno_jax.data.__main__ import main as data
from uno_jax.demo import main as demo
from uno_jax.encodings import main as encode
from uno_jax.evaluate import main as evaluate
from uno_jax.families.uno.config import UnoPE
from uno_jax.report import main as report
from uno_jax.sample import main as sample
from uno_jax.support.folder_lock import locked, locked_path
from uno_jax.toybox.__main__ import main as toybox
from uno_jax.train import main as train
from uno_jax.train_small import main as train_small
from uno_jax.weights import arrays

RECIPE = ["--config", "configs/uno_stage1.py", "--preset", "tiny", "--data.path", "{}/pairs.json"]
DRAWN = ["--model", "{}/model", "--steps", "1", "--width", "16", "--height", "16"]
# Command, arguments, and what another holds.
WRITERS = {
    "train": (train, [*RECIPE, "--weights", "{}/model", "--workdir", "OUT/new"], "new"),
    "encode": (encode, [*RECIPE, "--weights", "{}/model", "--out", "OUT/new"], "new"),
    "pack": (data, ["pack", "{}/pairs.json", "--out", "OUT/new"], "new"),
    "sample": (sample, [*DRAWN, "--jobs", "{}/pairs.json", "--out", "OUT/new"], "new"),
    "sample, one picture": (sample, [*DRAWN, "--prompt", "a dog", "--out", "OUT/new.png"], "new.png"),
    "evaluate": (evaluate, ["--model", "{}/model", "--out", "OUT/new"], "new"),
    "evaluate dreambench": (
        evaluate,
        ["dreambench-single", "--data", "{}", "--model", "{}/model", "--out", "OUT/new"],
        "new",
    ),
    "evaluate list": (
        evaluate,
        ["list", "--lists", "{}/pairs.json", "--model", "{}/model", "--out", "OUT/new"],
        "new",
    ),
    "ablate": (ablate, ["--config", "small_ablation", "--out", "OUT/new"], "new"),
    "coevolve": (coevolve, ["--config", "small_coevolution", "--out", "OUT/new"], "new"),
    "report": (report, ["{}", "--out", "OUT/new.html"], "new.html"),
    "train small": (train_small, ["--out", "OUT/new"], "new"),
    "demo": (demo, ["--out", "OUT/new"], "new/demo"),
    "toybox": (toybox, ["--out", "OUT/new", "--count", "1"], "new"),
    "convert": (convert, ["vae", "--src", "{}/vae.safetensors", "--dst", "OUT/new"], "new/vae"),
    "export": (convert, ["vae", "--src", "{}/model", "--dst", "OUT/new.safetensors"], "new.safetensors"),
    "convert lora": (convert, ["lora", "--src", "{}/lora.safetensors", "--dst", "OUT/new"], "new"),
    "export lora": (
        convert,
        ["export-lora", "--src", "{}/lora", "--dst", "OUT/new.safetensors", "--format", "uno"],
        "new.safetensors",
    ),
    "pack model": (convert, ["pack", "--model", "{}/model", "--dst", "OUT/new"], "new"),
    "lpips": (convert, ["lpips", "--dst", "OUT/new", "--src", "{}/none"], "new/lpips.safetensors"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("writers")
    write_model(place / "model")
    write_lora(place / "lora", UnoPE())
    write_pairs(place)
    with contextlib.chdir(place), pytest.raises(SystemExit) as stop:
        convert(["vae", "--src", "model", "--dst", "vae.safetensors"])
    assert not stop.value.code
    return place


@pytest.fixture(autouse=True)
def no_weights(folder, monkeypatch):
    monkeypatch.setattr(arrays, "restore_params", lambda *_: pytest.fail("weights were loaded"))


@pytest.mark.parametrize(("command", "words", "place"), WRITERS.values(), ids=WRITERS)
def test_the_second_writer_is_refused(command, words, place, folder, tmp_path, capsys):
    # A file or folder that is replaced as a whole is locked beside it.
    lock = locked_path if "lora" in words or place == "new/vae" or "." in place else locked
    arguments = [word.replace("{}", str(folder)).replace("OUT", str(tmp_path)) for word in words]
    with lock(tmp_path / place), pytest.raises(SystemExit) as stop:
        command(arguments)
    told = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2
    assert told.startswith(f"error: {tmp_path / place} is in use by `")
    assert f"(process {os.getpid()} on " in told
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


KINDS = {
    "convert": (["vae", "--src", "{}/vae.safetensors", "--dst", "OUT"], "vae", True),
    "convert lora": (["lora", "--src", "{}/lora.safetensors", "--dst", "OUT/lora"], "lora", True),
    "pack model": (["pack", "--model", "{}/model", "--dst", "OUT"], "clip", True),
    "efficientnet": (["efficientnet", "--dst", "OUT"], "efficientnet", True),
    "export": (["vae", "--src", "{}/model", "--dst", "OUT/vae.safetensors"], "vae.safetensors", False),
    "export lora": (
        ["export-lora", "--src", "{}/lora", "--format", "uno", "--dst", "OUT/lora.safetensors"],
        "lora.safetensors",
        False,
    ),
    "lpips": (["lpips", "--dst", "OUT", "--src", "{}/none"], "lpips.safetensors", False),
}


@pytest.mark.parametrize(("words", "name", "makes_folder"), KINDS.values(), ids=KINDS)
def test_no_file_becomes_a_folder_or_the_reverse(words, name, makes_folder, folder, tmp_path, capsys):
    if makes_folder:
        (tmp_path / name).write_text("mine")
    else:
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").touch()
    before = sorted(tmp_path.rglob("*"))
    arguments = [word.replace("{}", str(folder)).replace("OUT", str(tmp_path)) for word in words]
    with pytest.raises(SystemExit) as stop:
        convert([*arguments, "--overwrite"])
    assert stop.value.code == 2
    kind = "is a file: give a directory" if makes_folder else "is a directory: give a file"
    assert f"{tmp_path / name} {kind}" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_a_model_is_replaced_where_a_link_leads(folder, tmp_path):
    (tmp_path / "disk" / "vae").mkdir(parents=True)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "vae").symlink_to("../disk/vae")
    words = ["vae", "--src", f"{folder}/vae.safetensors", "--dst", f"{tmp_path}/model", "--overwrite"]
    with pytest.raises(SystemExit) as stop:
        convert(words)
    assert not stop.value.code and (tmp_path / "model" / "vae").is_symlink()
    assert (tmp_path / "disk" / "vae" / "config.json").is_file()
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["vae"]


def test_a_pipe_in_a_pictures_place_stays(folder, tmp_path, capsys):
    os.mkfifo(tmp_path / "2_0.png")
    words = [*DRAWN, "--jobs", "{}/pairs.json", "--out", str(tmp_path), "--overwrite"]
    with pytest.raises(SystemExit) as stop:
        sample([word.replace("{}", str(folder)) for word in words])
    assert stop.value.code == 2 and "2_0.png is a device or a pipe" in capsys.readouterr().err
    assert (tmp_path / "2_0.png").is_fifo()
