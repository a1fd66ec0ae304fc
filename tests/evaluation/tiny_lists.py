"""Lists in the published forms, a few entries each, over drawn photos."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

OMNICONTEXT = [
    {
        "key": "0001",
        "task_type": "single_object",
        "instruction": "A mug on a beach.",
        "instruction_language": "en",
        "input_images": ["images/0.jpg"],
    },
    {
        "key": "0001",
        "task_type": "scene_object",
        "instruction": "Put the mug of image 1 into image 2.",
        "instruction_language": "en",
        "input_images": ["images/0.jpg", "images/1.jpg"],
    },
    {
        "key": "0002",
        "task_type": "scene_object",
        "instruction": "Put the can of image 1 into image 2.",
        "instruction_language": "en",
        "input_images": ["images/1.jpg", "images/0.jpg"],
    },
]


def xversebench(index: int, prompt: str, **references: str) -> dict[str, Any]:
    """An entry; `references` are captions by folder."""
    inputs = [
        {"image_path": f"assets/XVerseBench/{folder}/00.jpg", "caption": caption}
        for folder, caption in references.items()
    ]
    modulation = [{"type": "adapter", "src_inputs": inputs, "use_words": [[0, "man", "man"]]}]
    return {"index": index, "input_images": [], "prompt": prompt, "modulation": modulation}


def write_jsonl(folder: Path) -> Path:
    """OmniContext's rows, as SconeEval's repository keeps them too, with their pictures."""
    write_pictures(folder / "images/0.jpg", folder / "images/1.jpg")
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in OMNICONTEXT))
    return path


def write_parquet(folder: Path, rows: list[dict[str, Any]] = OMNICONTEXT) -> Path:
    """The same as the hub's files hold them, pictures within."""
    write_pictures(folder / "images/0.jpg", folder / "images/1.jpg")
    held = [
        row
        | {
            "input_images": [
                {"bytes": (folder / name).read_bytes(), "path": None} for name in row["input_images"]
            ]
        }
        for row in rows
    ]
    (folder / "data").mkdir(exist_ok=True)
    for number, part in enumerate((held[:1], held[1:])):
        pq.write_table(pa.Table.from_pylist(part), folder / f"data/train-{number:05}.parquet")
    return folder / "data"


def write_pictures(*paths: Path) -> None:
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.linear_gradient("L").resize((48 + 8 * number, 48)).convert("RGB").rotate(90 * number).save(path)
