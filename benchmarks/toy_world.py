"""Pairs a second of the toy world, made on the device and drawn one by one.

    python -m benchmarks.toy_world --sizes 64 128

One reference; the best of several rounds, by the wall clock, as a GPU is timed, and by the CPU time of all
threads, which other programs on the machine disturb less. The drawn composer runs in one process.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from benchmarks.measure import table
from uno_jax.support.command_line import parse_args
from uno_jax.toybox import load_subjects, pair
from uno_jax.toybox.device import draw_bank, load_bank, make_pairs, make_world


@dataclass(frozen=True)
class Args:
    """Time both composers."""

    sizes: tuple[int, ...] = (64, 128)
    """Sides of a picture in pixels."""
    batch: int = 32
    """Pairs of a call; thousands on a GPU."""
    references: int = 1
    rounds: int = 10
    bank: Path | None = None
    """Bank of backgrounds; by default two drawings of each scene, which takes no longer or shorter."""


def main() -> None:
    args = parse_args(Args, "python -m benchmarks.toy_world", None)
    bank = draw_bank(2) if args.bank is None else load_bank(args.bank)
    subjects = load_subjects()
    rows = []
    for size in args.sizes:
        world = make_world(bank, subjects, size)

        def on_device(index: int, world=world) -> None:
            jax.block_until_ready(make_pairs(jax.random.key(index), world, args.batch, args.references))

        def drawn(index: int, size=size) -> None:
            for each in range(args.batch):
                pair(np.random.default_rng([index, each]), subjects, size, args.references)

        for name, call in (("device", on_device), ("drawn", drawn)):
            wall, cpu = least_seconds(call, args.rounds)
            row = f"{args.batch / wall:.0f}", f"{1000 * cpu / args.batch:.2f}"
            rows.append((f"{size} pixels, {name}", *row))
    print(f"{jax.devices()[0].device_kind}, batch {args.batch}, references {args.references}")
    print(table(("", "pairs/s", "CPU ms a pair"), rows))


def least_seconds(call: Callable[[int], None], rounds: int) -> tuple[float, float]:
    """Least wall and CPU seconds of a call, after one that compiles."""
    wall = cpu = float("inf")
    for index in range(rounds + 1):
        start, cpu_start = time.perf_counter(), time.process_time()
        call(index)
        if index:
            wall = min(wall, time.perf_counter() - start)
            cpu = min(cpu, time.process_time() - cpu_start)
    return wall, cpu


if __name__ == "__main__":
    main()
