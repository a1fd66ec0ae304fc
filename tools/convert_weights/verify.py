"""Recomputes what a reference implementation recorded, by the functions that sampling and training use."""

import re
from collections.abc import Iterator
from pathlib import Path

from .golden.recording import Kind, Result, compare
from .golden.uno import UNO
from .mapping import ConversionError


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
        known = found or kind.inputs.fullmatch(key) or kind.left_out.fullmatch(key)
        unknown += [] if known else [key]
    if unknown:
        raise ConversionError(f"golden.npz holds unknown arrays: {', '.join(unknown)}")
    for key, make, arguments in jobs:
        try:
            computed = make(golden, *arguments)
        except KeyError as error:
            raise ConversionError(f"{key} cannot be computed: the folder lacks {error.args[0]}") from None
        yield compare(key, golden.arrays[key], computed, kind.limit, kind.exact)


def kind_of(folder: Path) -> Kind:
    """The kind of a recording."""
    return UNO
