"""Bounds of a network's numbers, checked when its config is made, since a damaged config.json may hold any.
Those of options and recipes are declared with `support.bounds`.
"""

from collections.abc import Mapping
from typing import Any

Bound = tuple[float, float]

WIDTH = (1, 1 << 17)
"""Channels and features: far above those of every published model."""
VOCABULARY = (1, 1 << 22)
LAYERS = (0, 1024)
LENGTH = (1, 2048)
"""Tokens of a prompt. Attention's tables grow with the square."""
SIDE = (1, 1 << 14)
"""Pixels or patches."""
SEED = (0, (1 << 64) - 1)
EPSILON = (0, 1)
SCALE = (-1e6, 1e6)
STAGES = 16
"""Most numbers that a tuple may have."""


def check_bounds(config: Any, **bounds: Bound) -> None:
    """Raises ValueError naming the first field of a config that lies outside its bounds, both included.

    A tuple's numbers must each lie within them. None is left to the field's type.
    """
    for name, (least, most) in bounds.items():
        value = getattr(config, name)
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        if isinstance(value, tuple) and not 0 < len(value) <= STAGES:
            raise ValueError(f"{name} must have between 1 and {STAGES} numbers, got {len(value)}")
        # NaN is within no bounds, and neither is True.
        numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)
        if not numbers or not all(least <= each <= most for each in values):
            raise ValueError(f"{name} must be between {least:g} and {most:g}, got {value}")


def check_divides(config: Any, whole: str, part: str) -> None:
    """Raises ValueError unless the field `whole` is a multiple of the field `part`."""
    if getattr(config, whole) % getattr(config, part):
        raise ValueError(
            f"{whole} {getattr(config, whole)} is not a multiple of {part} {getattr(config, part)}"
        )


def check_lengths(config: Any, *names: str) -> None:
    """Raises ValueError unless these tuples have a number for each stage."""
    lengths = {name: len(getattr(config, name)) for name in names}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"these must have equally many numbers: {lengths}")


def check_agree(pairs: Mapping[str, tuple[int, int]]) -> None:
    """Raises ValueError unless the two numbers of each pair, by what they are, are equal."""
    for names, (left, right) in pairs.items():
        if left != right:
            raise ValueError(f"these parts do not belong together: {names} differ ({left} and {right})")
