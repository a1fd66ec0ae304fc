"""Pairs a second of the toy world made on the device (`uno_jax.toybox.device`), pictures of 128x128."""

import time
from functools import partial

import jax

from benchmarks.gpu.bench import Bench, peak_gib
from uno_jax.toybox import load_subjects
from uno_jax.toybox.device import draw_bank, make_pairs, make_world

SIZE, PER_SCENE = 128, 1  # one drawing of each background: more take no longer to use, only to draw
BATCHES = (64, 256, 1024)


def run(bench: Bench) -> None:
    start = time.perf_counter()
    bank = draw_bank(PER_SCENE)
    drawn = time.perf_counter()
    world = jax.block_until_ready(make_world(bank, load_subjects(), SIZE))
    bench.record("bank drawn by the host", s=drawn - start)
    bench.record("atlas drawn by the host", s=time.perf_counter() - drawn)
    for batch in BATCHES if bench.full else BATCHES[:1]:
        start = time.perf_counter()
        jax.block_until_ready(make_pairs(jax.random.key(0), world, batch))
        first = time.perf_counter() - start
        ms = bench.ms(partial(make_pairs, jax.random.key(1), world, batch))
        bench.record(
            f"{SIZE} pixels, batch {batch}",
            first_s=first,
            ms=ms,
            pairs_s=1e3 * batch / ms,
            peak_GiB=peak_gib(),
        )
