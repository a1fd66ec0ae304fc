"""Choices by hash: equal on every machine and in every order, since each depends on its key alone."""

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any

BITS = 64


def draw(*key: Any) -> int:
    """A whole number below 2**64 from JSON values that say what is being chosen."""
    return int.from_bytes(hashlib.sha256(json.dumps(key).encode()).digest()[: BITS // 8], "big")


def share(*key: Any) -> float:
    """A number in [0, 1)."""
    return (draw(*key) >> 11) / 2 ** (BITS - 11)


def scattered(total: int, *key: Any) -> Iterator[int]:
    """Every number below `total` once, in steps of a length without a common divisor with it."""
    if total < 1:
        return
    start, step = draw(*key, "start") % total, draw(*key, "step") % total
    while math.gcd(step, total) != 1:
        step += 1
    for count in range(total):
        yield (start + count * step) % total
