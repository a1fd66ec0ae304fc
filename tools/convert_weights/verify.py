"""Recomputes what a reference implementation recorded, by the functions that sampling and training use."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from uno_jax.support.words import counted

from .golden.recording import Kind, Result, compare
from .golden.scone import SCONE
from .golden.uno import UNO
from .mapping import ConversionError
from .source import read_json


def verify(folder: Path) -> Iterator[Result]:
    """Compares the recorded outputs one after another.

    Raises FileNotFoundError for anything but a recording or for a missing network, and CheckpointError for
    one that cannot be read or converted, for an unknown key, and for an output that lacks an input.
    """
    kind = kind_of(folder)
    golden = kind.load(folder)
    jobs, unknown = [], []
    for key in golden.arrays:
        found = [
            (make, match) for pattern, make in kind.outputs.items() if (match := re.fullmatch(pattern, key))
        ]
        jobs += [(key, make, match.groups()) for make, match in found]
        unknown += [] if found or kind.inputs.fullmatch(key) or left_out(kind, key) else [key]
    if unknown:
        raise ConversionError(f"golden.npz holds unknown arrays: {', '.join(unknown)}")
    for key, make, arguments in jobs:
        try:
            computed = make(golden, *arguments)
        except KeyError as error:
            raise ConversionError(f"{key} cannot be computed: the folder lacks {error.args[0]}") from None
        yield compare(key, golden.arrays[key], computed, kind.limit, kind.exact)


def left_out(kind: Kind, key: str) -> str:
    """The sort of arrays to which a key belongs that is not recomputed; empty if it is."""
    return next((name for name, pattern in kind.left_out.items() if re.fullmatch(pattern, key)), "")


def describe_left_out(folder: Path) -> str:
    """How many of a recording's arrays are not recomputed, in words; empty where all are."""
    kind = kind_of(folder)
    found = Counter(left_out(kind, key) for key in kind.load(folder).arrays)
    return ", ".join(f"{counted(found[name], 'array')} of {name}" for name in kind.left_out if found[name])


def kind_of(folder: Path) -> Kind:
    """The kind of a recording, as its config.json tells.

    Raises FileNotFoundError, or ConversionError for what is none.
    """
    config = folder / "config.json"
    if not config.is_file():
        raise FileNotFoundError(f"{folder} is not a golden folder: it has no config.json")
    return SCONE if "llm_config" in read_json(config) else UNO
