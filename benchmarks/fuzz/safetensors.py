"""Mutated safetensors files, read by `uno_jax.weights.safetensors_file`: refused by name, or read to the end.

    python -m benchmarks.fuzz.safetensors --runs 200000

Each run changes a small file's bytes, or values of its header, and reads it, from memory and from the disk.
What is neither read nor refused with a CheckpointError is a failure and ends the program with its seed. The
table says how often our reader and the safetensors library agree.
"""

import json
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import tyro

from uno_jax.support.errors import CheckpointError
from uno_jax.weights.safetensors_file import BITS, from_bytes, read_header, to_bytes

VALUES: tuple[Any, ...] = (
    0,
    1,
    -1,
    2,
    3,
    2**31,
    2**62,
    2**63,
    2**64,
    10**400,
    0.5,
    1e308,
    True,
    None,
    "",
    "a",
)
VALUES += ([], {}, [0], [0, 4], [4, 8], [8, 4], [2**62, 4, 0], [1] * 70, {"a": "b"}, {"a": 1}, "\ud800", "\0")
VALUES += tuple(BITS)
ON_DISK = 10  # every so many runs are read from a file too


@dataclass(frozen=True)
class Arguments:
    """Reads mutated safetensors files and prints a table of what came of them."""

    runs: int = 200_000
    """Number of files."""
    seed: int = 0
    """Seed of the first; the others have those after it."""


def whole() -> bytes:
    """A small file."""
    return to_bytes({"a": np.ones((16, 16), np.float32), "b": np.ones(4, np.int8)})


def mutated(seed: int) -> bytes:
    """A small file with one or two changes."""
    return changed(np.random.default_rng(seed), whole())


def changed(rng: np.random.Generator, content: bytes) -> bytes:
    """The content with one or two changes."""
    for _ in range(rng.integers(1, 3)):
        content = _changed_header(rng, content) if rng.random() < 0.7 else _changed_bytes(rng, content)
    return content


def _changed_bytes(rng: np.random.Generator, content: bytes) -> bytes:
    place = int(rng.integers(len(content) + 1))
    some = rng.integers(0, 256, rng.integers(1, 9), dtype=np.uint8).tobytes()
    return (
        content[:place] + some + content[place + len(some) :],
        content[:place] + some + content[place:],
        content[:place],
        content + some,
        content[:place] + b"[{"[rng.integers(2) :][:1] * int(rng.integers(1, 5000)) + content[place:],
    )[rng.integers(5)]


def _changed_header(rng: np.random.Generator, content: bytes) -> bytes:
    """With another value somewhere in its header, and the right length of it."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
    except (ValueError, RecursionError):
        return content
    node, keys = header, _keys(header)
    while keys and rng.random() < 0.8:
        key = keys[rng.integers(len(keys))]
        if not _keys(node[key]):
            break
        node, keys = node[key], _keys(node[key])
    key = keys[rng.integers(len(keys))] if keys and rng.random() < 0.9 else "new"
    value = VALUES[rng.integers(len(VALUES))]
    if isinstance(node, dict):
        node["__metadata__" if rng.random() < 0.05 else key] = value
    elif isinstance(node, list):
        node[key if isinstance(key, int) else len(node) :] = [value]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def _keys(node: Any) -> list[Any]:
    return list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []


def outcome(content: bytes, file: Path | None = None) -> tuple[str, str]:
    """What our reader (from memory, and from `file` if given) and the library do: read or refuse."""
    try:
        arrays = from_bytes(content, Path("mutated"))
        ours = "read"
        if file is not None:
            file.write_bytes(content)
            for name, tensor in read_header(file)[0].items():
                np.testing.assert_array_equal(tensor.read(), arrays[name])
    except CheckpointError:
        ours = "refused"
    try:
        safetensors.deserialize(content)
    except safetensors.SafetensorError:
        return ours, "refused"
    return ours, "read"


def fuzz(runs: int, first: int, folder: Path) -> Counter[tuple[str, str]]:
    """How often each pair of outcomes came.

    Raises RuntimeError with the seed of a failure.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for seed in range(first, first + runs):
        try:
            counts[outcome(mutated(seed), folder / "m.safetensors" if seed % ON_DISK == 0 else None)] += 1
        except Exception as error:
            raise RuntimeError(f"seed {seed}: {type(error).__name__}: {error}") from error
    return counts


def main(arguments: Arguments) -> None:
    """Prints the table."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        counts = fuzz(arguments.runs, arguments.seed, Path(folder))
    print(f"{arguments.runs:,} files in {time.perf_counter() - start:.0f} s, no failure\n")
    print("| uno_jax | safetensors | files |\n|---|---|---:|")
    for (ours, theirs), count in sorted(counts.items()):
        print(f"| {ours} | {theirs} | {count:,} |")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
