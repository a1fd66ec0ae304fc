"""Where a training step's time goes (after part `lora`, whose compiled step is in the cache)."""

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.parts.kernels import record, traced
from benchmarks.gpu.parts.lora import SETTINGS, prepare


def run(bench: Bench) -> None:
    setting = SETTINGS[0]
    step = prepare(bench, setting, f"{setting}: compilation")
    record(bench, str(setting), traced(step))
