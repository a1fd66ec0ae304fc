"""The readers that damaged files are given to, each with whole files and a way to damage them."""

import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np

from benchmarks.fuzz import lists, pictures, safetensors
from benchmarks.fuzz.byte_mutations import mutate
from benchmarks.fuzz.json_mutations import mutated

FEW = 8  # bytes that a damaged safetensors file still has, its header's length


class Target(NamedTuple):
    """A reader: `read` raises for what is neither read nor refused with the reader's own error."""

    seeds: Sequence[bytes]
    read: Callable[[bytes], None]
    damage: Callable[[Random, bytes], bytes]


def _pictures() -> Target:
    """`images.read_image` and `read_size` on files of eight formats."""
    files = [content for group in pictures.whole_pictures().values() for content in group]
    return Target(files, _read_picture, lambda draw, content: mutate(_generator(draw), content, files))


def _read_picture(content: bytes) -> None:
    pictures.read_once(outcome := pictures.Outcome(), content, again=True)
    if outcome.sizes_differ:
        raise AssertionError("the size without the pixels is another")


def _safetensors() -> Target:
    """`safetensors_file.from_bytes` and `read_header`."""
    file = Path(tempfile.mkdtemp()) / "m.safetensors"

    def damage(draw: Random, content: bytes) -> bytes:
        whole = content if len(content) > FEW else safetensors.whole()
        return safetensors.changed(_generator(draw), whole)

    return Target([safetensors.whole()], lambda content: _read_tensors(content, file), damage)


def _read_tensors(content: bytes, file: Path) -> None:
    if safetensors.outcome(content, file) == ("read", "refused"):
        raise AssertionError("the safetensors library refuses it")


def _generator(draw: Random) -> np.random.Generator:
    return np.random.default_rng(draw.getrandbits(64))


def _json(kinds: Callable[[], Sequence[lists.Kind]]) -> Target:
    """Readers of JSON: the first byte of a content says which."""
    found, folder = list(kinds()), Path(tempfile.mkdtemp())
    lists.write_pictures(folder)

    def read(content: bytes) -> None:
        kind = found[content[0] % len(found)] if content else found[0]
        lists.read_once(kind, content[1:], folder / kind.file)

    def damage(draw: Random, content: bytes) -> bytes:
        return content[:1] + mutated(draw, content[1:])

    return Target([bytes([index]) + kind.content for index, kind in enumerate(found)], read, damage)


TARGETS: dict[str, Callable[[], Target]] = {
    "pictures": _pictures,
    "safetensors": _safetensors,
    "lists": functools.partial(_json, lists.lists),
    "configs": functools.partial(_json, lists.checkpoints),
    "synthesis": functools.partial(_json, lists.synthesis),
    "results": functools.partial(_json, lists.results),
}
