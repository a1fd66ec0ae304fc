"""Bounds of the numbers in dataclasses of settings, declared where the field is:

    steps: Annotated[int, Bounds(1, 1_000)] | None = None

`parse_args` checks those of every command before any work, and `check_recipe` those of every recipe.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

Bound = int | float


class Bounds(NamedTuple):
    """The least and the greatest value of a number, and of every number in a tuple. With `above` the least
    itself is not allowed.
    """

    least: Bound
    greatest: Bound
    above: bool = False

    def problem(self, value: Bound) -> str:
        """What is wrong with a value; empty where nothing is."""
        if isinstance(value, float) and not math.isfinite(value):
            return f"must be a finite number, got {value}"
        if value < self.least or (self.above and value == self.least):
            return f"must be {'more than' if self.above else 'at least'} {self.least:,}, got {value:,}"
        if value > self.greatest:
            return f"must be at most {self.greatest:,}, got {value:,}"
        return ""


FINITE = Bounds(-math.inf, math.inf)
BELOW_1 = math.nextafter(1, 0)
# Types that several commands share. The upper bounds are far above any use, and low enough for lists, arrays
# and schedules of that length to fit into memory.
Seed = Annotated[int, Bounds(0, 2**63 - 2)]  # the next seed must be one too
Share = Annotated[float, Bounds(0, 1)]
Count = Annotated[int, Bounds(1, 1_000_000)]
BatchSize = Annotated[int, Bounds(1, 16_384)]
Devices = Annotated[int, Bounds(-1, 1_000_000)]  # along an axis of a mesh; -1 for those left over
Steps = Annotated[int, Bounds(1, 1_000)]
Strength = Annotated[float, Bounds(0, 10_000)]
Side = Annotated[int, Bounds(16, 8_192)]
RefSide = Annotated[int, Bounds(16, 4_096)]


def check_bounds(settings: Any) -> Iterator[str]:
    """`field must be …` for every number out of its bounds, nested settings included, as they are spelt in
    recipes: optim.learning_rate. Numbers without bounds must be finite.
    """
    for name, value, bounds in bounded_numbers(settings):
        if problem := bounds.problem(value):
            yield f"{name} {problem}"


def as_option(problem: str) -> str:
    """The problem with its field spelt as an option: --optim.learning-rate."""
    name, space, rest = problem.partition(" ")
    return f"--{name.replace('_', '-')}{space}{rest}"


def bounded_numbers(settings: Any, prefix: str = "") -> Iterator[tuple[str, Bound, Bounds]]:
    """Name, value and bounds of every number in settings."""
    hints = get_type_hints(type(settings), include_extras=True)
    for field in dataclasses.fields(settings):
        value, hint = getattr(settings, field.name), hints[field.name]
        name = prefix + option_name(hint, field.name)
        if dataclasses.is_dataclass(value):
            yield from bounded_numbers(value, f"{name}." if name != prefix else prefix)
            continue
        items = value if isinstance(value, tuple | list) else (value,)
        if any(dataclasses.is_dataclass(item) for item in items):
            for index, item in enumerate(items):
                yield from bounded_numbers(item, f"{name}[{index}].")
            continue
        bounds = declared_bounds(hint) or FINITE
        yield from ((name, number, bounds) for number in numbers_in(value))


def numbers_in(value: Any) -> Iterator[Bound]:
    """The numbers of a field: its own, or those of a tuple, nested or not."""
    if isinstance(value, tuple | list):
        for item in value:
            yield from numbers_in(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def declared_bounds(hint: Any) -> Bounds | None:
    """The bounds in an annotation, also within `… | None`; None where there are none."""
    own = getattr(hint, "__metadata__", ())
    inner = [get_args(hint)[0]] if get_origin(hint) is Annotated else get_args(hint)
    found = [each for each in own if isinstance(each, Bounds)]
    found += [bounds for each in inner if (bounds := declared_bounds(each))]
    return found[0] if found else None


def option_name(hint: Any, field: str) -> str:
    """A field's name on the command line, which tyro's `arg(name=…)` may change."""
    names = [getattr(mark, "name", None) for mark in getattr(hint, "__metadata__", ())]
    return next((name for name in names if name is not None), field)
