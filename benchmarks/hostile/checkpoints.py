"""Runs, encodings, shards and synthesis runs with one file damaged, which the same command takes up again."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.hostile.case import Case, spoilt

SPOILS: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: path.write_bytes(b""),
    "missing": Path.unlink,
    "of other bytes": lambda path: path.write_bytes(b"\xa5" * path.stat().st_size),
    "of 100,000 [": lambda path: path.write_bytes(b"[" * 100_000),
}
TRAINED = (
    *("recipe/metadata", "data/metadata", "state/_METADATA", "state/manifest.ocdbt", "_CHECKPOINT_METADATA"),
    *("commit_success.txt", "state/d/*", "state/ocdbt.process_0/d/*", "state/_sharding"),
)
SYNTHESIS = ("config.json", "manifest/taxonomy.jsonl", "manifest/subjects.jsonl", "manifest/diptychs.jsonl")


def cases() -> Iterator[Case]:
    for name, spoil in SPOILS.items():
        for file in TRAINED:
            make = partial(_spoil, spoil, f"trained/checkpoints/1/{file}")
            yield spoilt(
                "train", f"{file} {name}", "--workdir", "trained", "--export", make=make, given=("trained",)
            )
        for file in ("lora/config.json", "lora/params/_METADATA", "lora/params/manifest.ocdbt"):
            make = partial(_spoil, spoil, f"trained/{file}")
            yield spoilt("sample", f"{file} {name}", "--lora", "trained/lora", make=make, given=("trained",))
        for file in ("encodings.json", "*.safetensors"):
            make = partial(_spoil, spoil, f"encoded/{file}")
            words = ("--data.encodings", "encoded", "--data.path", "")
            yield spoilt("train", f"encodings: {file} {name}", *words, make=make, given=("encoded",))
        for file in ("records.json", "*.tar"):
            make = partial(_spoil, spoil, f"packed/{file}")
            words = ("check", "packed/records.json")
            case = spoilt("check", f"shards: {file} {name}", make=make, given=("packed",), codes=(0, 1, 2))
            yield case._replace(words=words)
        for file in SYNTHESIS:
            make = partial(_spoil, spoil, f"synthesis/{file}")
            for stage in ("taxonomy", "subjects", "scenes", "diptychs", "export", "report"):
                yield spoilt(f"stage {stage}", f"{file} {name}", make=make)
        yield spoilt("sheet", f"bank.npz {name}", make=partial(_spoil, spoil, "bank.npz"))
        yield spoilt("marks", f"marks.json {name}", make=partial(_spoil, spoil, "marks.json"))


def _spoil(spoil: Callable[[Path], object], pattern: str, folder: Path) -> None:
    """Spoils the largest file of that name."""
    found = [path for path in folder.glob(pattern) if path.is_file()]
    if not found:
        raise FileNotFoundError(f"nothing in {folder} is named {pattern}")
    spoil(max(found, key=lambda path: path.stat().st_size))
