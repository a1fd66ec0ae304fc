"""Bytes -> bytes with a few faults of the kinds that disks, downloads and careless programs make."""

from collections.abc import Callable, Sequence

from numpy.random import Generator

# Values at which readers' arithmetic breaks, as one, two or four bytes.
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
MOST_FAULTS = 3


def mutate(rng: Generator, data: bytes, others: Sequence[bytes]) -> bytes:
    """One to MOST_FAULTS faults; `others` are whole files that pieces come from."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, MOST_FAULTS + 1))):
        if changed:
            FAULTS[rng.integers(len(FAULTS))](rng, changed, others)
    return bytes(changed)


def _flip(rng: Generator, data: bytearray, others: Sequence[bytes]) -> None:
    data[_place(rng, data)] ^= 1 << int(rng.integers(8))


def _byte(rng: Generator, data: bytearray, others: Sequence[bytes]) -> None:
    data[_place(rng, data)] = int(rng.integers(256))


def _edge(rng: Generator, data: bytearray, others: Sequence[bytes]) -> None:
    size = int(rng.choice((1, 2, 4)))
    value = EDGES[rng.integers(len(EDGES))] & (256**size - 1)
    at = _place(rng, data)
    data[at : at + size] = value.to_bytes(size, "big" if rng.random() < 0.5 else "little")


def _cut(rng: Generator, data: bytearray, others: Sequence[bytes]) -> None:
    del data[_place(rng, data) :]


def _remove(rng: Generator, data: bytearray, others: Sequence[bytes]) -> None:
    at = _place(rng, data)
    del data[at : at + int(rng.integers(1, 33))]


def _repeat(rng: Generator, data: bytearray, others: Sequence[bytes]) -> None:
    at, to = _place(rng, data), _place(rng, data)
    data[to:to] = data[at : at + int(rng.integers(1, 65))]


def _transplant(rng: Generator, data: bytearray, others: Sequence[bytes]) -> None:
    other = others[rng.integers(len(others))]
    at, to, size = int(rng.integers(len(other))), _place(rng, data), int(rng.integers(1, 65))
    data[to : to + size] = other[at : at + size]


def _place(rng: Generator, data: bytearray) -> int:
    """A place in the data, more often near its beginning, where headers are."""
    end = len(data) if rng.random() < 0.5 else min(len(data), 128)
    return int(rng.integers(max(end, 1)))


FAULTS: tuple[Callable[[Generator, bytearray, Sequence[bytes]], None], ...] = (
    *(_flip, _byte, _byte, _edge, _edge, _cut, _remove, _repeat, _transplant),
)
