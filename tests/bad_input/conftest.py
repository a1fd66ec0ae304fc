"""A folder with a model, a LoRA and files of the wrong kinds, in which every case of these tests runs."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny_model import write_lora, write_model
from uno_jax.families.uno.config import UnoPE

RECIPE = """
from uno_jax.families.uno.config import LoraConfig
from uno_jax.training.config import DataConfig, TrainConfig

def get_config():
    return TrainConfig(workdir="run", preset="tiny", weights="model", data=DataConfig(path="pairs.json"),
                       lora=LoraConfig(rank=4), batch_size=1, steps=1)
"""
FILES = {
    "recipe.py": RECIPE,
    "syntax.py": "def get_config(:",
    "raises.py": "\ndef get_config():\n    return {}['a']\n",
    "imports.py": "import no_such_module",
    "number.py": "def get_config():\n    return 3\n",
    "text.txt": "text",
    "pairs.json": json.dumps([{"prompt": "a", "image_paths": ["a.png"], "image_tgt_path": "a.png"}]),
    "finished/metrics.jsonl": '{"step": 1, "loss": 1.0}\n',
    "torn/scores.json": "{",
}


@pytest.fixture(scope="session")
def given(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bad_input")
    write_model(folder / "model")
    write_lora(folder / "lora", UnoPE())
    Image.new("RGB", (64, 64), "red").save(folder / "a.png")
    Image.new("L", (32, 32)).save(folder / "small.png")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    for name in ("empty", "pictures"):
        (folder / name).mkdir()
    Image.new("RGB", (64, 64)).save(folder / "pictures" / "0_0.png")
    os.mkfifo(folder / "pipe.png")
    return folder


@pytest.fixture
def refused(given, monkeypatch, capsys):
    """A function that runs a command which must end with code 2 before weights are loaded, and leave every
    file as it was; it returns the error.
    """
    monkeypatch.chdir(given)
    for place in ("uno_jax.weights.load", "uno_jax.training.state", "uno_jax.training.encode_dataset"):
        monkeypatch.setattr(f"{place}.restore_network", lambda *_: pytest.fail("weights were loaded"))

    def refused(main, arguments: list[str]) -> str:
        before = contents(given)
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        told = capsys.readouterr().err
        assert stop.value.code == 2 and "error: " in told and "Traceback" not in told
        assert contents(given) == before
        # A box of tyro's breaks lines where it likes.
        return " ".join(told.replace("│", " ").split())

    return refused


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file, and the names of all folders."""
    found = {}
    for path in folder.rglob("*"):
        if "__pycache__" not in path.parts:
            about = path.lstat()
            found[str(path)] = (0, 0) if path.is_dir() else (about.st_size, about.st_mtime_ns)
    return found
