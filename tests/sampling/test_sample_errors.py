"""What a sampling command can be given wrongly: told before weights are loaded, and nothing is written."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tests.tiny_model import TINY, write_lora, write_model
from uno_jax.families.uno.config import ModelConfig, UnoPE
from uno_jax.networks.mmdit_config import MMDiTConfig
from uno_jax.sample import main
from uno_jax.support import images
from uno_jax.support.settings import from_dict, to_dict

SCHNELL = from_dict(ModelConfig, to_dict(TINY) | {"mmdit": to_dict(TINY.mmdit) | {"guidance_embed": False}})
WIDER = MMDiTConfig(
    64, 24, 40, hidden_size=96, num_heads=3, depth=2, depth_single_blocks=2, axes_dim=(8, 12, 12)
)
PROMPT = ["--prompt", "a dog"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models and LoRAs, whole and not, and pictures, usable and not."""
    folder = tmp_path_factory.mktemp("given")
    write_model(folder / "model")
    write_model(folder / "schnell", SCHNELL)
    write_model(folder / "partial")
    (folder / "partial" / "t5").rename(folder / "partial" / "text")
    write_model(folder / "mixed")
    for left, right in (("vae", "swapped"), ("clip", "vae"), ("swapped", "clip")):
        (folder / "mixed" / left).rename(folder / "mixed" / right)
    (folder / "empty").mkdir()
    write_lora(folder / "lora", UnoPE())
    write_lora(folder / "wider", UnoPE(), WIDER)
    save_file({"model.weight": np.zeros((2, 2), np.float32)}, folder / "other.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "other.safetensors").read_bytes()[:-9])
    write_pictures(folder)
    return folder


def write_pictures(folder: Path) -> None:
    good = Image.effect_noise((64, 48), 50).convert("RGB")
    good.save(folder / "good.png")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:900])
    Image.new("RGB", (600, 8)).save(folder / "thin.png")
    Image.new("1", (10_000, 5_001)).save(folder / "huge.png")
    (folder / "text.png").write_text("not a picture")


CASES = {
    "neither prompt nor jobs": ([], "give either --prompt or --jobs"),
    "prompt and jobs": ([*PROMPT, "--jobs", "{}/jobs.json"], "not both"),
    "jobs and ref": (
        ["--jobs", "{}/jobs.json", "--ref", "{}/good.png"],
        "go with --prompt; a job list names its own",
    ),
    "jobs and left": (
        ["--jobs", "{}/jobs.json", "--left", "{}/good.png"],
        "go with --prompt; a job list names its own",
    ),
    "mesh": ([*PROMPT, "--mesh.tensor", "3"], "tensor=3 sequence=1 does not fit 1 device"),
    "left missing": ([*PROMPT, "--left", "{}/none.png"], "none.png: no such picture"),
    "left of a width without halves": (
        [*PROMPT, "--left", "{}/good.png", "--width", "48"],
        "the width must be a multiple of 32, got 48",
    ),
    "unknown option": ([*PROMPT, "--stepz", "3"], "--stepz"),
    "a word for a number": ([*PROMPT, "--steps", "many"], "--steps"),
    "unknown unope": ([*PROMPT, "--unope", "x"], "--unope"),
    "unknown dtype": ([*PROMPT, "--dtype", "float64"], "--dtype"),
    "width no multiple": ([*PROMPT, "--width", "100"], "multiples of 16 pixels, got 100x64"),
    "height zero": ([*PROMPT, "--height", "0"], "--height must be at least 16, got 0"),
    "width negative": ([*PROMPT, "--width", "-64"], "--width must be at least 16, got -64"),
    "too large": ([*PROMPT, "--width", "8000", "--height", "8000"], "more than 50 megapixels"),
    "no steps": ([*PROMPT, "--steps", "0"], "steps must be at least 1, got 0"),
    "negative steps": ([*PROMPT, "--steps", "-4"], "steps must be at least 1, got -4"),
    "guidance not a number": ([*PROMPT, "--guidance", "nan"], "--guidance must be a finite number, got nan"),
    "guidance infinite": ([*PROMPT, "--guidance", "inf"], "--guidance must be a finite number, got inf"),
    "guidance negative": ([*PROMPT, "--guidance", "-1"], "--guidance must be at least 0, got -1.0"),
    "guidance for schnell": (
        [*PROMPT, "--guidance", "4", "--model", "{}/schnell"],
        "guidance 4.0 was given, but this model (as FLUX.1-schnell) takes none",
    ),
    "negative seed": ([*PROMPT, "--seed", "-1"], "--seed must be at least 0, got -1"),
    "seed beyond 32 bits": (
        [*PROMPT, "--seed", "4294967295", "--num-images", "2"],
        "got 4294967295 for 2 images",
    ),
    "no images": ([*PROMPT, "--num-images", "0"], "--num-images must be at least 1"),
    "no batch": ([*PROMPT, "--batch-size", "0"], "--batch-size must be at least 1"),
    "reference size below a token": ([*PROMPT, "--ref-size", "8"], "--ref-size must be at least 16, got 8"),
    "reference missing": ([*PROMPT, "--ref", "{}/none.png"], "none.png: no such picture"),
    "reference a directory": ([*PROMPT, "--ref", "{}/empty"], "empty is a directory, expected a picture"),
    "reference truncated": ([*PROMPT, "--ref", "{}/cut.png"], "cut.png: cannot be read, truncated"),
    "reference no picture": ([*PROMPT, "--ref", "{}/text.png"], "text.png: not a picture"),
    "reference huge": ([*PROMPT, "--ref", "{}/huge.png"], "huge.png: 10000x5001 is more than 50"),
    "reference too thin": ([*PROMPT, "--ref", "{}/good.png", "{}/thin.png"], "thin.png: 600x8 becomes"),
    "model missing": ([*PROMPT, "--model", "{}/none"], "uno-convert"),
    "model a preset's name": ([*PROMPT, "--model", "flux_dev"], "holds no weights"),
    "model without a part": ([*PROMPT, "--model", "{}/partial"], "it lacks t5"),
    "model of swapped parts": ([*PROMPT, "--model", "{}/mixed"], "holds a clip, expected vae"),
    "model empty": ([*PROMPT, "--model", "{}/empty"], "it lacks mmdit, vae, t5, clip"),
    "model a lora": ([*PROMPT, "--model", "{}/lora"], "it lacks mmdit"),
    "lora missing": (
        [*PROMPT, "--lora", "{}/none.safetensors"],
        "none.safetensors: name a file or a folder, auto",
    ),
    "lora of another model": ([*PROMPT, "--lora", "{}/wider"], "is a LoRA for another model"),
    "lora a network": ([*PROMPT, "--lora", "{}/model/vae"], "holds a vae, expected a lora"),
    "lora no lora": ([*PROMPT, "--lora", "{}/other.safetensors"], "other.safetensors"),
    "lora truncated": ([*PROMPT, "--lora", "{}/cut.safetensors"], "cut.safetensors"),
    "unope contradicts": (
        [*PROMPT, "--lora", "{}/lora", "--unope", "h"],
        "UnoPE h, offset scale 1 was asked for, but the LoRA was trained with UnoPE d, offset scale 1",
    ),
    "offset scale contradicts": (
        [*PROMPT, "--lora", "{}/lora", "--offset-scale", "2"],
        "UnoPE d, offset scale 2",
    ),
    "offset scale negative": ([*PROMPT, "--offset-scale", "-1"], "--offset-scale must be at least 0"),
    "out under a file": ([*PROMPT, "--out", "{}/good.png/out"], "good.png is not a directory"),
    "out an existing file": ([*PROMPT, "--out", "{}/model/vae/config.json"], "is not a directory"),
    "out another format": ([*PROMPT, "--out", "{}/new.jpg"], "pictures are written as .png"),
    "out one file for two": ([*PROMPT, "--num-images", "2", "--out", "{}/new.png"], "give a directory"),
    "jobs missing": (["--jobs", "{}/none.json"], "no job list"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_arguments(case, folder, tmp_path, monkeypatch, capsys):
    arguments, message = CASES[case]
    arguments = [argument.replace("{}", str(folder)) for argument in arguments]
    assert message in refused(arguments, folder, tmp_path, monkeypatch, capsys)


def refused(arguments, folder, tmp_path, monkeypatch, capsys) -> str:
    """The error of a command that must stop before weights are loaded and leave every file as it was."""
    monkeypatch.setattr("uno_jax.sampling.run.load_model", lambda *_: pytest.fail("weights were loaded"))
    defaults = {"--model": str(folder / "model"), "--out": str(tmp_path / "out")}
    for option, value in defaults.items():
        if option not in arguments:
            arguments = [*arguments, option, value]
    files = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    told = capsys.readouterr().err
    assert stop.value.code == 2 and "error: " in told and "Traceback" not in told
    assert not (tmp_path / "out").exists() and sorted(folder.rglob("*")) == files
    return told


LISTS = {
    "no JSON": ("[{", "is not readable JSON"),
    "nested too deep": ("[" * 100_000, "is not readable JSON"),
    "no text": (b"\xff\xfe\x00", "is not readable JSON"),
    "a number": (3, "is not readable JSON at record 0: line 1: expected [ or {, got '3'"),
    "two lists": (b'[{"prompt": "a"}][{"prompt": "b"}]', "more text after the end of the list"),
    "empty": ([], "must be a list of at least one record"),
    "entry no object": (["a dog"], 'entry 0: expected an object, got "a dog"'),
    "no prompt": ([{"image_paths": ["good.png"]}], 'entry 0: "prompt" is missing'),
    "prompt no text": ([{"prompt": 3}], 'entry 0: "prompt" must be a string'),
    "prompt half a character": ([{"prompt": "\ud83d"}], "invalid Unicode"),
    "misspelt paths": ([{"prompt": "a", "imag_path": "good.png"}], 'did you mean "image_path"?'),
    "misspelt width": ([{"prompt": "a", "widht": 64}], 'unknown key "widht": did you mean "width"?'),
    "misspelt left": ([{"prompt": "a", "leftpath": "good.png"}], 'did you mean "left_path"?'),
    "backslashes": ([{"prompt": "a", "image_path": "no\\r.png"}], "write folders with /"),
    "paths no list": ([{"prompt": "a", "image_paths": "good.png"}], 'a path, got "good.png"'),
    "path no text": ([{"prompt": "a", "image_path": None}], "a path, got [null]"),
    "picture missing": ([{"prompt": "a", "image_paths": ["none.png"]}], "none.png: no such picture"),
    "picture truncated": ([{"prompt": "a", "image_path": "cut.png"}], "cut.png: cannot be read"),
    "picture too thin": ([{"prompt": "a", "image_path": "thin.png"}], "thin.png: 600x8 becomes"),
    "size no number": ([{"prompt": "a", "width": "64"}], '"width" must be a whole number, got "64"'),
    "size no multiple": ([{"prompt": "a", "height": 72}], "multiples of 16 pixels, got 64x72"),
    "seed negative": ([{"prompt": "a", "seed": -3}], "got -3"),
    "a mask as in Python": ([{"prompt": "a", "mask": "m.png"}], 'in lists it is called "mask_path"'),
    "steps of its own": ([{"prompt": "a", "steps": 9}], '"steps" is one for all entries: leave it out'),
    "steps left out": ([{"prompt": "a", "skip_threshold": 1}], "leave it out, and give --skip-threshold"),
    "as an option": ([{"prompt": "a", "image-cfg": 6}], '"image-cfg" is one for all entries: leave it out'),
    "left no text": ([{"prompt": "a", "left_path": ["good.png"]}], '"left_path" must be a path, got ["good'),
    "left truncated": ([{"prompt": "a", "left_path": "cut.png"}], "cut.png: cannot be read"),
}


@pytest.mark.parametrize("case", LISTS)
def test_bad_job_lists(case, folder, tmp_path, monkeypatch, capsys):
    content, message = LISTS[case]
    told = refused(["--jobs", str(write_list(folder, content))], folder, tmp_path, monkeypatch, capsys)
    assert message in told and "jobs.json" in told


def write_list(folder: Path, content) -> Path:
    path = folder / "jobs.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_all_bad_entries_are_told_together(folder, tmp_path, monkeypatch, capsys):
    entries = [
        {"prompt": "a"},
        *({"prompt": "a", "image_path": f"none{i}.png"} for i in range(12)),
        {"promt": "a"},
    ]
    told = refused(["--jobs", str(write_list(folder, entries))], folder, tmp_path, monkeypatch, capsys)
    assert "has 13 bad entries of 14" in told and "and 3 more" in told
    assert told.count("no such picture") == 10 and "entry 0" not in told


def test_bad_defaults_of_a_list_are_told_once(folder, tmp_path, monkeypatch, capsys):
    jobs = ["--jobs", str(write_list(folder, [{"prompt": "a"}] * 3))]
    told = refused([*jobs, "--width", "100"], folder, tmp_path, monkeypatch, capsys)
    assert told.count("multiples of 16") == 1 and "entry" not in told


def test_a_list_reads_each_picture_once(folder, tmp_path, monkeypatch, capsys):
    read = []
    monkeypatch.setattr(images, "read_image", lambda path: read.append(path) or Image.open(path))
    entries = [{"prompt": str(i), "image_path": "good.png"} for i in range(5)] + [{"prompt": 3}]
    refused(["--jobs", str(write_list(folder, entries))], folder, tmp_path, monkeypatch, capsys)
    assert len(read) == 1


def test_a_full_disk_leaves_no_half_picture(folder, tmp_path, monkeypatch, capsys):
    def full(self, path, **_):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(SystemExit) as stop:
        main(["--model", str(folder / "model"), *PROMPT, "--steps", "1", "--out", str(tmp_path)])
    told = capsys.readouterr().err
    assert stop.value.code == 2 and "error: [Errno 28] No space left on device" in told
    assert list(tmp_path.iterdir()) == []
