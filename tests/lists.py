"""Small lists of solid pictures for the tests of uno_jax.data: a picture's colour tells which it is."""

import json
from pathlib import Path

from PIL import Image


def write_picture(path: Path, number: int, size: tuple[int, int] = (32, 32)) -> str:
    """A grey picture of value `number`; its name."""
    Image.new("RGB", size, (number, number, number)).save(path)
    return path.name


def write_list(folder: Path, count: int, refs: int = 1, size: tuple[int, int] = (32, 32)) -> Path:
    """`count` records; the target of record i has grey value i, its references 100 + i."""
    entries = [
        {
            "prompt": f"number {i}",
            "image_tgt_path": write_picture(folder / f"t{i}.png", i, size),
            "image_paths": [write_picture(folder / f"r{i}.png", 100 + i, size)] * refs,
        }
        for i in range(count)
    ]
    return write_json(folder / "list.json", entries)


def write_json(path: Path, entries: object) -> Path:
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path
