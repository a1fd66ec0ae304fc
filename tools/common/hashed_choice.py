"""Choices by hash: the same on every machine and in any order, because each depends on its key alone."""

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any

BITS = 64


def hash_number(*key: Any) -> int:
    """A number below 2**64 from JSON values that say what is being chosen."""
    return int.from_bytes(hashlib.sha256(json.dumps(key).encode()).digest()[: BITS // 8], "big")


def hash_share(*key: Any) -> float:
    """A number in [0, 1)."""
    return (hash_number(*key) >> 11) / 2 ** (BITS - 11)


def scattered(total: int, *key: Any) -> Iterator[int]:
    """Yields every number below `total` once, in steps whose length is coprime to it."""
    if total < 1:
        return
    start, step = hash_number(*key, "start") % total, hash_number(*key, "step") % total
    while math.gcd(step, total) != 1:
        step += 1
    for count in range(total):
        yield (start + count * step) % total
