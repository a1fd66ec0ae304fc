"""The LoRAs of a command line, each with a strength -> what they add together to a model."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flax.traverse_util import flatten_dict

from uno_jax.families.lora import joined
from uno_jax.families.registry import family_of
from uno_jax.support.bounds import Bounds
from uno_jax.support.errors import CheckpointError
from uno_jax.support.trees import Params
from uno_jax.support.words import counted
from uno_jax.weights.lora_files import load_lora, load_updates, lora_file
from uno_jax.weights.names import SMALL_CACHED, find_lora

STRENGTH = re.compile(r"(.*):([+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|nan|inf))", re.IGNORECASE | re.DOTALL)
BOUNDS = Bounds(-100, 100)
NAMED = "auto", SMALL_CACHED  # LoRAs whose names are no paths
SHOWN = 4  # layers that a note names
Names = str | Path | Sequence[str | Path]
"""Names of LoRAs: of one, of several, or none of them for "auto"."""


class Lora(NamedTuple):
    """A LoRA that fits a model, and the position convention it was trained with."""

    config: Any
    unope: Any
    params: Params


class Placed(NamedTuple):
    """Where a LoRA lies, and the factor on its update."""

    path: Path
    strength: float = 1.0


class Added(NamedTuple):
    """What LoRAs add to a model: trees of `down` and `up` by network, the position convention that they were
    trained with, None where none of them has one, and a line for each of which layers are left out.
    """

    params: dict[str, Params]
    unope: Any = None
    notes: tuple[str, ...] = ()


def find_loras(names: Names, model: Path) -> list[Placed]:
    """The LoRAs of these names (`names.find_lora`), where a string may end in its strength, as "style:0.8".

    Raises ValueError for a strength out of bounds and for "none" beside others, FileNotFoundError.
    """
    each = [names] if isinstance(names, str | Path) else list(names) or ["auto"]
    if len(each) > 1 and "none" in map(str, each):
        raise ValueError('the LoRA "none" stands alone: leave it out, or the others')
    found = []
    for name in each:
        bare, strength = split_strength(name) if isinstance(name, str) else (name, 1.0)
        if (path := find_lora(bare, model)) is not None:
            found.append(Placed(path, strength))
        elif bare != name:
            raise ValueError(f"there is no LoRA for the strength of {name}")
    return found


def split_strength(name: str) -> tuple[str, float]:
    """A LoRA's name and strength, by default 1. A path that exists is never split.

    Raises ValueError for a strength out of bounds.
    """
    parts = STRENGTH.fullmatch(name)
    if parts is None or Path(name).exists():
        bare, _, said = name.rpartition(":")
        if not Path(name).exists() and (bare in NAMED or (bare and Path(bare).exists())):
            raise ValueError(f"the strength of the LoRA {bare} must be a number, got {said!r}")
        return name, 1.0
    if problem := BOUNDS.problem(strength := float(parts[2])):
        raise ValueError(f"the strength of the LoRA {name} {problem}")
    return parts[1], strength


def read_loras(placed: Sequence[Placed], config: Any) -> Added | None:
    """What the LoRAs add together; None for none. One of strength 0 must fit too, but adds nothing and has no
    say in positions.

    Raises FileNotFoundError, or CheckpointError for one that does not fit the model, and for two that were
    trained with different positions.
    """
    read = [(_read(each.path, config), each) for each in placed]
    notes = tuple(note for added, _ in read for note in added.notes)
    used = [(added, each) for added, each in read if each.strength]
    conventions = {added.unope: each.path for added, each in used if added.unope is not None}
    if len(conventions) > 1:
        (first, one), (second, other) = list(conventions.items())[:2]
        raise CheckpointError(
            f"{one} was trained with {first}, {other} with {second}: they cannot be used together"
        )
    params = {
        kind: joined([(added.params[kind], each.strength) for added, each in used if kind in added.params])
        for kind in dict.fromkeys(kind for added, _ in used for kind in added.params)
    }
    return Added(params, next(iter(conventions), None), notes) if placed else None


def _read(path: Path, config: Any) -> Added:
    family = family_of(config)
    family.need_lora()
    if not path.exists():
        raise FileNotFoundError(
            f"no LoRA at {path}: name a file or a folder, {', '.join(NAMED)}, small or none"
        )
    if (file := lora_file(path)) is None:
        lora = read_fitting_lora(path, config)
        return Added({family.core: lora.params}, lora.unope)
    params, left_out, unope = load_updates(file, config)
    if not left_out:
        return Added(params, unope)
    shown = ", ".join(left_out[:SHOWN]) + (", …" if len(left_out) > SHOWN else "")
    layers = f"{counted(len(left_out), 'layer')} that this model does not have"
    return Added(params, unope, (f"note: {file}: left out {layers}: {shown}",))


def abstract_lora_of(config: Any, lora: Any) -> tuple[Params, Params]:
    """Shapes and logical axes of a LoRA for a model."""
    family = family_of(config)
    return family.need_lora().abstract(getattr(config, family.core), lora)


def read_fitting_lora(path: str | Path, config: Any) -> Lora:
    """The LoRA at `path`.

    Raises FileNotFoundError, or CheckpointError unless it fits the model.
    """
    family = family_of(config)
    family.need_lora()
    lora = Lora(*load_lora(Path(path), getattr(config, family.core)))
    expected, _ = abstract_lora_of(config, lora.config)
    found, wanted = _shapes(lora.params), _shapes(expected)
    if found != wanted:
        name = next(name for name in sorted(found | wanted) if found.get(name) != wanted.get(name))
        raise CheckpointError(
            f"{path} is a LoRA for another model: its {name} is {found.get(name, 'absent')}, "
            f"this model needs {wanted.get(name, 'none')}"
        )
    return lora


def _shapes(tree: Params) -> dict[str, tuple[int, ...]]:
    return {name: leaf.shape for name, leaf in flatten_dict(tree, sep=".").items()}
