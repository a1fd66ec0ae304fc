"""What a part works with: the model's sizes, its clock, timed calls, and where it records figures."""

import os
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from benchmarks.gpu.results import FAILED, Figure, Results
from uno_jax.families.uno.config import PRESETS, ModelConfig
from uno_jax.support.memory import GIB

H100_PEAK = 989.0  # dense bfloat16 TFLOP/s by the data sheet, of H100 and H200


@dataclass(frozen=True)
class Bench:
    """One part's bench. `end` is when it will be killed (`time.monotonic`)."""

    part: str
    results: Results
    preset: str
    end: float

    @property
    def model(self) -> ModelConfig:
        """The configs of the networks."""
        return PRESETS[self.preset]

    @property
    def full(self) -> bool:
        """Whether the model has its full size; sizes of everything else follow from that."""
        return self.preset.startswith("flux")

    def left(self) -> float:
        """Seconds that are left."""
        return self.end - time.monotonic()

    def record(self, what: str, **figures: Figure) -> None:
        """Adds figures to the part's row `what`, at once on disk."""
        self.results.row(self.part, what, figures)
        print(what, figures, flush=True)

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Records an error in the row `what`, so that it costs no figure of another row."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.record(what, **{FAILED: f"{type(error).__name__}: {error}"[:300]})

    def compiled(self, what: str, function: Any, *args: Any) -> Any:
        """The jitted function compiled for these arguments; records seconds, and by the compiler's account
        the memory that the program needs in all and for temporaries.
        """
        return self._recorded(what, *timed_compile(self._lowered(what, function, args)))

    def compiled_together(self, function: Any, calls: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
        """The same for several arguments at once, since XLA compiles a program on one core. What fails is
        recorded and missing.
        """
        lowered = {what: self._lowered(what, function, args) for what, args in calls.items()}
        programs = {}
        with ThreadPoolExecutor(len(calls)) as pool:
            waiting = {what: pool.submit(timed_compile, each) for what, each in lowered.items()}
            for what, compiling in waiting.items():
                with self.attempt(what):
                    programs[what] = self._recorded(what, *compiling.result())
        return programs

    def _lowered(self, what: str, function: Any, args: tuple[Any, ...]) -> Any:
        start = time.perf_counter()
        lowered = function.lower(*args)
        self.record(what, trace_s=time.perf_counter() - start)
        return lowered

    def _recorded(self, what: str, program: Any, seconds: float) -> Any:
        self.record(what, compile_s=seconds, **memory_figures(program))
        return program

    def ms(self, call: Callable[[], Any], rounds: int = 12, calls: int = 1, warm_up: int = 2) -> float:
        """Median milliseconds of a call, of `rounds` after `warm_up` calls; each enqueues `calls` of them
        before it waits. Fewer rounds when time runs out, at least two.
        """
        for _ in range(warm_up):
            jax.block_until_ready(call())
        taken: list[float] = []
        while len(taken) < rounds and (len(taken) < 2 or self.left() > 2):
            start = time.perf_counter()
            out = [call() for _ in range(calls)][-1]
            jax.block_until_ready(out)
            taken.append(time.perf_counter() - start)
        return 1e3 * statistics.median(taken) / calls

    def speed(self, what: str, ms: float, tflop: float, goal_ms: float | None = None) -> None:
        """Records a time with its TFLOP/s and shares of the data sheet's peak and of the measured product."""
        rate = tflop / ms * 1e3
        figures: dict[str, Figure] = {"ms": ms}
        if goal_ms is not None and self.full:
            figures["goal_ms"] = goal_ms
        measured = self.results.figure("device", PRODUCT, "TFLOP/s")
        figures |= {"TFLOP/s": rate, "MFU_%": 100 * rate / H100_PEAK}
        figures["of_measured_%"] = 100 * rate / measured if measured else None
        self.record(what, **figures, peak_GiB=peak_gib())


PRODUCT, COPY = "bf16 product", "device copy"


def timed_compile(lowered: Any) -> tuple[Any, float]:
    """The program, and the seconds that it took to compile or to read from the cache."""
    start = time.perf_counter()
    return lowered.compile(), time.perf_counter() - start


def memory_figures(program: Any) -> dict[str, Figure]:
    """GiB by the compiler's account; none where a program from the cache has no such account."""
    try:
        memory = program.memory_analysis()
        kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
        temporary = memory.temp_size_in_bytes
    except (AttributeError, NotImplementedError, jax.errors.JaxRuntimeError):
        return {}
    return {"needs_GiB": (kept + temporary) / GIB, "temporaries_GiB": temporary / GIB}


def peak_gib() -> float | None:
    """The most memory of the device that this process has used; None where the platform does not tell."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats["peak_bytes_in_use"] / GIB if "peak_bytes_in_use" in stats else None


def since_start() -> float:
    """Seconds since the command started this process."""
    return time.time() - float(os.environ.get("UNO_BENCHMARK_START", time.time()))


def open_bench(part: str, out: Path, model: str, seconds: float) -> Bench:
    """The bench of this process's part; records the device and the model that "auto" is."""
    end = time.monotonic() + seconds - since_start()
    platform, device = jax.default_backend(), jax.devices()[0].device_kind
    preset = model if model != "auto" else "flux_dev" if platform == "gpu" else "tiny"
    results = Results(out)
    results.update(platform=platform, device=device, model=preset, jax=jax.__version__)
    return Bench(part, results, preset, end)
