"""Mapping tables, and the entries made of them: which part of a source tensor is which part of a parameter.

A table is a list of rows. A row names a module of ours and, for each naming, the stem of its tensors.
`expand` turns rows into entries, which are read in both directions: `convert` fills parameters, `export`
fills tensors.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flax.traverse_util import flatten_dict

from uno_jax.networks.registry import NetworkConfig, abstract_params
from uno_jax.support.errors import CheckpointError

Shapes = dict[str, tuple[int, ...]]
Path = tuple[str, ...]


class ConversionError(CheckpointError):
    """A source does not fit; the message says which one, what was expected and what was found."""


class Swapped(NamedTuple):
    """A stem whose two halves of rows are stored in the other order."""

    stem: str


class Flattened(NamedTuple):
    """A stem of a convolution of whole patches that is stored as a linear layer of their pixels, in the order
    row, column, channel. The tensor of the convolution itself is read too.
    """

    stem: str


class Row(NamedTuple):
    """A module of ours (dotted), and its stems in the model's namings, in their order.

    A stem in several rows is one tensor, split among them in the table's order. A tuple of stems is the
    reverse: equal parts of our module. "{}" stands for the index of a layer; our layers are stacked.
    """

    target: str
    stems: tuple[str | tuple[str, ...] | Swapped | Flattened, ...]


class Naming(NamedTuple):
    """How a program names tensors: `marker` is a key that identifies it, `scale` its name of norm scales."""

    name: str
    marker: str
    scale: str = "weight"


@dataclass(frozen=True)
class Model:
    """What is known about the files of one network.

    The first naming is the original one, in which networks are exported. `prefixes` are those of keys in
    files with several networks, and `written_prefix` is that of exported keys; `folder` is the network's
    folder in a diffusers pipeline; `ignored` matches keys without parameters.
    """

    kind: str
    title: str
    folder: str
    namings: tuple[Naming, ...]
    prefixes: tuple[str, ...]
    ignored: str
    rows: Callable[[Any], list[Row]]
    infer: Callable[[Shapes, Naming, dict[str, Any]], NetworkConfig]
    hints: Callable[[dict[str, Any]], dict[str, Any]]
    written_prefix: str = ""
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    """Ignored keys whose tensor is that of another key, which a file may lack."""
    defaults: Callable[[dict[str, Any]], Any] = lambda hints: None
    """Sampling's defaults of a drawing network, from hints."""


class Entry(NamedTuple):
    """Rows [start, stop) of a source tensor are a parameter's part from `column` on, along its last axis.

    `layer` is the index on the parameter's stacked axis, None if it has none; `kernel`: axes are reordered;
    `flat`: it is `Flattened`.
    """

    source: str
    rows: tuple[int, int]
    target: Path
    layer: int | None
    column: int
    kernel: bool
    flat: bool = False


def expand(model: Model, config: NetworkConfig, naming: Naming) -> list[Entry]:
    """Returns the entries of a network in one naming, which cover each parameter exactly once."""
    params = flatten_dict(abstract_params(config)[0])
    column = model.namings.index(naming)
    taken: dict[str, int] = {}  # rows of a source that earlier table rows have claimed
    entries = []
    for row in model.rows(config):
        stem, target = row.stems[column], tuple(row.target.split("."))
        for path, leaf in params.items():
            if path[: len(target)] != target:
                continue
            stacked = "{}" in str(stem)
            shape = leaf.shape[1:] if stacked else leaf.shape
            suffix = "" if path == target else _suffix(path[-1], naming)
            for layer in range(leaf.shape[0]) if stacked else (None,):
                for source, rows, start in _parts(stem, suffix, layer, shape, taken, path == target):
                    kernel = path[-1] == "kernel"
                    flat = kernel and isinstance(stem, Flattened)
                    entries.append(Entry(source, rows, path, layer, start, kernel, flat))
    return entries


def _suffix(leaf: str, naming: Naming) -> str:
    return {"kernel": "weight", "bias": "bias", "scale": naming.scale}[leaf]


def _key(stem: str, suffix: str) -> str:
    """A tensor's name; a stem that ends in _ joins without a dot (in_proj_weight)."""
    return stem + suffix if not suffix or stem.endswith("_") else f"{stem}.{suffix}"


def _parts(
    stem: str | tuple[str, ...] | Swapped | Flattened,
    suffix: str,
    layer: int | None,
    shape: tuple[int, ...],
    taken: dict[str, int],
    whole: bool,
) -> Iterable[tuple[str, tuple[int, int], int]]:
    """(source key, its rows, our first column) of one layer of a parameter; `whole`: an embedding table."""
    size = shape[0] if whole else shape[-1]
    if isinstance(stem, Swapped):
        half, name = size // 2, _key(stem.stem, suffix)
        return [(name, (half, size), 0), (name, (0, half), half)]
    stem = stem.stem if isinstance(stem, Flattened) else stem
    names = [_key(name.format(layer), suffix) for name in ((stem,) if isinstance(stem, str) else stem)]
    if len(names) > 1:
        part = size // len(names)
        return [(name, (0, part), i * part) for i, name in enumerate(names)]
    start = taken.get(names[0], 0)
    taken[names[0]] = start + size
    return [(names[0], (start, start + size), 0)]


def source_shapes(entries: list[Entry], params: dict[Path, Any]) -> Shapes:
    """The shape every source tensor must have, in torch's axis order."""
    shapes: Shapes = {}
    for entry in entries:
        shape = params[entry.target].shape[entry.layer is not None :]
        rest = shape[1:] if not entry.kernel else (shape[-2], *shape[:-2])
        rest = (math.prod(rest),) if entry.flat else rest
        rows = max(entry.rows[1], shapes.get(entry.source, (0,))[0])
        shapes[entry.source] = (rows, *rest)
    return shapes


def count_layers(shapes: Shapes, stem: str) -> int:
    """Number of layers in keys of the form stem.N.: the highest N plus one.

    Raises KeyError with a layer that is missing, when there are fewer keys than layers.
    """
    pattern = re.compile(re.escape(stem) + r"\.(\d{1,9})\.")
    numbers = {int(found[1]) for key in shapes if (found := pattern.match(key))}
    if numbers and max(numbers) > len(shapes):
        raise KeyError(f"{stem}.{next(number for number in itertools.count() if number not in numbers)}")
    return 1 + max(numbers, default=-1)
