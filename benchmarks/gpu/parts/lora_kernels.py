"""Where a training step's time goes (after part `lora`, whose compiled step is in the cache)."""

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.parts.kernels import record, traced
from benchmarks.gpu.parts.lora import FIRST, prepare


def run(bench: Bench) -> None:
    step = prepare(bench, FIRST, f"{FIRST}: compilation")
    record(bench, str(FIRST), traced(step))
