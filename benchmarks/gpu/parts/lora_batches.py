"""The training step of part `lora` by batch and remat."""

import gc

import jax

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.parts.lora import Setting, measure

# By value. By XLA's account they need 40, 70, 56, 46 and 63 GiB; four samples do not fit without `full`.
SETTINGS = (
    Setting(4, "full"),
    Setting(2, "none"),
    Setting(2, "selective"),
    Setting(8, "full"),
    Setting(1, "none", encoded=False),
)


def run(bench: Bench) -> None:
    slowest = 0.0
    for setting in SETTINGS:
        if bench.left() < 1.2 * slowest:
            bench.record(str(setting), note="left out: no time")
            continue
        before = bench.left()
        try:
            measure(bench, setting)
        except jax.errors.JaxRuntimeError as error:
            full = "RESOURCE_EXHAUSTED" in str(error)
            bench.record(str(setting), note="out of memory" if full else str(error)[:300])
        gc.collect()  # the last setting's arrays
        slowest = max(slowest, before - bench.left())
