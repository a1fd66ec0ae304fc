"""Lists of pairs and of jobs that are no JSON, not the expected JSON, or not a file."""

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.hostile.case import Case, spoilt
from benchmarks.hostile.given import PAIRS

DOORS = {
    "check": ("check", (), (0, 1, 2)),
    "jobs": ("jobs", (), (0, 2)),
    "train": ("train", ("--print-config",), (0, 2)),
    "encode": ("encode", (), (0, 2)),
    "lists": ("single", ("--lists", "pairs.json"), (0, 2)),
    "import": ("import", (), (0, 2)),
    "judge": ("judge", (), (0, 2)),
}


def cases() -> Iterator[Case]:
    for name, content in contents().items():
        for door in ("check", "jobs", "lists", "import", "judge"):
            yield _case(door, name, partial(_write, content))
        yield spoilt("train", f"list: {name}", make=partial(_write, content))
        yield spoilt("pack", f"list: {name}", "--max-bad-share=1", make=partial(_write, content))
    for name, make in places().items():
        for door in ("check", "jobs", "encode", "lists", "import", "judge"):
            yield _case(door, name, make)
    for name in ("\ud800", "lone", "NaN", "deep"):
        jobs = ("--samples.jobs", "jobs.json", "--samples.every", "1", "--samples.steps", "1")
        found = contents().get(name, contents()["nested 100,000 deep"])
        yield spoilt(
            "train",
            f"samples.jobs {name!a}",
            *jobs,
            make=lambda folder, found=found: (folder / "jobs.json").write_bytes(found),
        )


def _case(door: str, name: str, make: Callable[[Path], object]) -> Case:
    base, words, codes = DOORS[door]
    return spoilt(base, f"list: {name}", *words, make=make, codes=codes, given=("pairs",))


def _write(content: bytes, folder: Path) -> None:
    (folder / "pairs.json").write_bytes(content)


def _pair(**changed: object) -> bytes:
    return json.dumps([*PAIRS, PAIRS[0] | changed]).encode()


def contents() -> dict[str, bytes]:
    """Name -> the bytes of a list."""
    good = json.dumps(PAIRS).encode()
    return {
        "text after the end": good + b"\n" + good,
        "nested 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
        "200 KB of [": b"[" * 200_000,
        "deep in a record": b'[{"prompt": ' + b"[" * 50_000 + b"]" * 50_000 + b"}]",
        "NaN": _pair(image_sizes=[[float("nan"), 1], [1, 1]]),
        "infinite score": good.replace(b'"prompt"', b'"score": 1e999, "prompt"', 1),
        "a byte order mark": b"\xef\xbb\xbf" + good,
        "UTF-16": good.decode().encode("utf-16"),
        "Latin-1": json.dumps(PAIRS, ensure_ascii=False).replace("toy", "töy").encode("latin-1"),
        "half a character": _pair(prompt="\ud83d"),
        "half a character in a path": _pair(image_tgt_path="\ud83d.png"),
        "a name twice": good.replace(b'"prompt"', b'"prompt": "b", "prompt"', 1),
        "huge numbers": _pair(image_sizes=[[10**400, 1], [1, 1]]),
        "a number of 5000 digits": b'[{"prompt": "a", "width": ' + b"9" * 5000 + b"}]",
        "a width of 10**9": _pair(width=10**9, height=10**9, seed=-1),
        "a prompt of 1": _pair(prompt=1),
        "a prompt of null": _pair(prompt=None),
        "no prompt": json.dumps([{"image_tgt_path": "0.png"}]).encode(),
        "paths of numbers": _pair(image_paths=[1, None]),
        "paths as text": _pair(image_paths="0.png"),
        "paths out of the folder": _pair(image_paths=["../../../../../../etc/passwd"]),
        "a path of zero bytes": _pair(image_tgt_path="a\0b.png"),
        "a long path": _pair(image_tgt_path="n" * 5000),
        "a URL": _pair(image_tgt_path="http://127.0.0.1:9/a.png"),
        "a strange URL": _pair(image_tgt_path="zip://a::b"),
        "a shard far away": _pair(image_tgt_path="x.tar#0+99999999999999"),
        "100 references": _pair(image_paths=["0.png"] * 100),
        "a long prompt": _pair(prompt="dog " * 200_000),
        "control characters": _pair(prompt="\x1b[31mred\x07\r\n\0"),
        "an object": b'{"pairs": []}',
        "a number": b"3",
        "null": b"null",
        "no records": b"[]",
        "records of numbers": b"[1, 2]",
        "no bytes": b"",
        "white space": b" " * 100_000,
        "a cut list": good[:-10],
        "indented": json.dumps(PAIRS, indent=400).encode(),
        "zeros": bytes(100_000),
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(1000),
    }


def places() -> dict[str, Callable[[Path], object]]:
    """Name -> a function that puts something else where the list is."""

    def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
        def place(folder: Path) -> None:
            (folder / "pairs.json").unlink(missing_ok=True)
            make(folder / "pairs.json")

        return place

    return {
        "a pipe": instead(os.mkfifo),
        "/dev/zero": instead(lambda path: path.symlink_to("/dev/zero")),
        "a folder": instead(Path.mkdir),
        "a loop of links": instead(lambda path: path.symlink_to("pairs.json")),
        "nothing": instead(lambda path: None),
    }
