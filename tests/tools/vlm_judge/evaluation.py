"""An evaluation of three drawn pictures, and a scripted judge of it."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.tools.language_models.openai_server import Server, said
from tools.vlm_judge.__main__ import main

COLOURS = {"backpack": (200, 10, 10), "can": (10, 200, 10), "cat": (10, 10, 200)}
NAMES = {"backpack": "02.jpg", "can": "01.jpg", "cat": "04.jpg"}  # DreamBench's references
CASES = (
    ("a backpack in the jungle", ("backpack",)),
    ("a backpack on the beach", ("backpack",)),
    ("a cat and a can in the snow", ("cat", "can")),
)


def draw(folder: Path, count: int = 1) -> None:
    """Pictures in different shades of grey."""
    folder.mkdir(exist_ok=True)
    for index in range(len(CASES)):
        for number in range(count):
            Image.new("RGB", (24, 24), (60 * index + 20 * number + 30,) * 3).save(
                folder / f"{index}_{number}.png"
            )


def write_scores(folder: Path, **more) -> None:
    rows = [
        {
            "picture": f"{index}_0.png",
            "prompt": prompt,
            "subjects": subjects,
            "category": "scene",
            "dino": 0.5,
        }
        for index, (prompt, subjects) in enumerate(CASES)
    ]
    (folder / "scores.json").write_text(json.dumps({"suite": "dreambench-multi", **more, "rows": rows}))


def verdict(instruction: float, *subjects: float, reasons: str = "because") -> str:
    return json.dumps({"reasons": reasons, "instruction": instruction, "subjects": subjects})


def question(request: dict) -> tuple[str, int, int]:
    """(the prompt, number of references, round) that a request is about."""
    text = said(request["messages"][0])
    prompt = re.search(r"<text>\n(.*)\n</text>", text)[1]
    return prompt, int(re.search(r"pictures \((\d+)\)", text)[1]), int(re.search(r"judge (\d+) of", text)[1])


def kind(request: dict) -> str:
    """A good answer: the higher the round, the better."""
    _, count, number = question(request)
    return verdict(2 * number, *([9.0, 4.0][:count]))


def words(server: Server | str, *more: object) -> list[str]:
    url = server if isinstance(server, str) else server.url
    return ["--model", "scripted", "--endpoint", url, "--retries", "0", *map(str, more)]


def judged(folder: Path, server: Server, *more: object) -> dict:
    main(words(server, "--evaluation", folder, *more))
    return json.loads((folder / "judge.json").read_text())


def error(capsys, line: list[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(line)
    assert stop.value.code == 2
    return capsys.readouterr().err
