"""Results of evaluations and trainings that no command wrote, given to the report and to the judge."""

import copy
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.hostile.case import Case, spoilt
from benchmarks.hostile.given import ROW, SCORE, SCORES, STEPS

ODD: dict[str, Any] = {
    "1e309": float("inf"),
    "NaN": float("nan"),
    "10**400": 10**400,
    "1e308": 1e308,
    "text": "0.5",
    "null": None,
    "a list": [],
    "an object": {"a": 1},
    "true": True,
}
TEXTS = {
    "half a character": "\ud83d",
    "dollars": "$x^{\\frac",
    "one dollar": "$",
    "escape codes": "\x1b[31m\x07",
    "a script": "<script>alert(1)</script>\"'",
    "a newline": "a\nb",
    "no text": "",
    "a path away": "../../../../etc/passwd",
    "a long text": "dog " * 100_000,
}


def cases() -> Iterator[Case]:
    for name, value in ODD.items():
        for place in ("mean", "interval", "groups"):
            score = copy.deepcopy(SCORE) | {place: {"dog": value} if place == "groups" else value}
            yield _scores(f"{place} of {name}", SCORES | {"scores": {"dino": score}})
        yield _scores(f"row's score of {name}", SCORES | {"rows": [ROW | {"dino": value}]})
        yield _scores(f"setting of {name}", SCORES | {"seed": value})
        yield _metrics(f"loss of {name}", [STEPS[0], STEPS[1] | {"loss": value}])
        yield _metrics(f"step of {name}", [STEPS[0], STEPS[1] | {"step": value}])
    for name, text in TEXTS.items():
        yield _scores(f"prompt of {name}", SCORES | {"rows": [ROW | {"prompt": text}]})
        yield _scores(f"subject of {name}", SCORES | {"rows": [ROW | {"subjects": [text]}]})
        yield _scores(f"category of {name}", SCORES | {"rows": [ROW | {"category": text}]})
        yield _scores(f"picture of {name}", SCORES | {"rows": [ROW | {"picture": text}]})
        yield _scores(f"group of {name}", SCORES | {"scores": {"dino": SCORE | {"groups": {text: 0.5}}}})
        yield _scores(f"score called {name}", SCORES | {"scores": {text: SCORE}})
        yield _metrics(f"metric called {name}", [step | {text: 1.0} for step in STEPS])
    for name, content in {
        "no UTF-8": b'{"step": 1, "loss": 1}\n{"step": 2, "\xff": 1}\n',
        "a torn line": b'{"step": 1, "loss": 1}\n{"step": 2, "lo',
        "no line": b"",
        "100,000 [": b"[" * 100_000,
        "numbers": b"1\n2\n",
        "zeros": bytes(1000),
        "steps that go back": b'{"step": 2, "loss": 1}\n{"step": 1, "loss": 1}\n',
    }.items():
        make = partial(_write, content, "finished/metrics.jsonl")
        yield spoilt("report", f"metrics.jsonl of {name}", make=make)
        yield spoilt(
            "report", f"scores.json of {name}", make=partial(_write, content, "evaluated/scores.json")
        )
        yield spoilt(
            "judge evaluation",
            f"scores.json of {name}",
            make=partial(_write, content, "evaluated/scores.json"),
        )


def _scores(name: str, value: Any) -> Case:
    content = json.dumps(value).encode()
    return spoilt("report", f"scores.json, {name}", make=partial(_write, content, "evaluated/scores.json"))


def _metrics(name: str, steps: list[dict[str, Any]]) -> Case:
    content = "".join(json.dumps(step) + "\n" for step in steps).encode()
    return spoilt("report", f"metrics.jsonl, {name}", make=partial(_write, content, "finished/metrics.jsonl"))


def _write(content: bytes, name: str, folder: Path) -> None:
    (folder / name).write_bytes(content)
