"""The parts in their order of value, the time that each may take, and one part in a process of its own.

A part may take the seconds that it asks for and what the others do not need; so when time is short, the last
ones lose theirs.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.gpu.results import DONE, RUNNING, Results, part_text, write_report

ROOT = Path(__file__).parents[2]
LEAST = 3.0  # seconds below which a part is not started


class Part(NamedTuple):
    """A module of `benchmarks.gpu.parts`, and the seconds that it may take of an H100's time."""

    name: str
    seconds: float
    in_jax: bool = True
    """Otherwise JAX must leave the memory to another library."""


PARTS = (
    Part("device", 12),
    Part("forward", 75),
    Part("kernels", 25),
    Part("eight_bits", 70),
    Part("lora", 100),
    Part("diffusers", 45, in_jax=False),
    Part("sampling", 80),
    Part("lora_batches", 120),
    Part("golden", 40),
    Part("warm", 12),
    Part("lora_kernels", 25),
    Part("eight_bits_more", 60),
    Part("encoders", 25),
    Part("toy_world", 16),
)


class Run(NamedTuple):
    """Where a run writes, what it measures, and when it has to end (`time.monotonic`)."""

    out: Path
    cache: Path
    model: str
    end: float


def chosen(names: Sequence[str]) -> list[Part]:
    """The parts of these names in the order of PARTS; all without names.

    Raises ValueError for an unknown name.
    """
    known = [part.name for part in PARTS]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no part {', '.join(unknown)}; there are {', '.join(known)}")
    return [part for part in PARTS if not names or part.name in names]


def limit(parts: Sequence[Part], left: float) -> float:
    """Seconds that the first of `parts` may take of those that are `left`: what it asks for, as long as there
    is as much, and what none of the others asks for.
    """
    return min(left, max(parts[0].seconds, left - sum(part.seconds for part in parts[1:])))


def run_parts(run: Run, parts: Sequence[Part]) -> None:
    """Runs the parts one after another; each has its share and what those before it left over."""
    results = Results(run.out)
    for number, part in enumerate(parts):
        seconds = limit(parts[number:], run.end - time.monotonic())
        if seconds < LEAST:
            results.update_part(part.name, status="skipped: no time was left", seconds=0.0)
            continue
        run_part(run, part, seconds)
        print(part_text(part.name, results.part(part.name)), flush=True)
        write_report(results)


def run_part(run: Run, part: Part, seconds: float) -> None:
    """Runs a part in a process of its own, and records how it ended: done, failed with its error, or killed
    at the limit. What it had recorded until then stays.
    """
    results, log = Results(run.out), run.out / "log.txt"
    results.update_part(part.name, status=RUNNING, seconds=0.0)
    start = time.monotonic()
    arguments = [part.name, str(run.out), run.model, f"{seconds:.1f}"]
    command = [sys.executable, "-m", "benchmarks.gpu.child", *arguments]
    with log.open("a") as output:
        output.write(f"\n=== {part.name}, at most {seconds:.0f} s\n")
        output.flush()
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(run.cache, part),
            cwd=ROOT,
            process_group=0,
        )
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        except BaseException:
            results.update_part(
                part.name, status="stopped with the command", seconds=time.monotonic() - start
            )
            raise
        finally:
            end(process)
    status = results.part(part.name)["status"]
    if code is None:
        status = f"killed at its limit of {seconds:.3g} s"
    elif status == RUNNING:  # it said nothing itself
        status = f"failed with code {code}"
    results.update_part(part.name, status=status, seconds=time.monotonic() - start)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills a process and those that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def environment(cache: Path, part: Part) -> dict[str, str]:
    """A part's environment: nearly all of the GPU's memory, the shared compilation cache, no network."""
    settings = {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "true" if part.in_jax else "false",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",  # arranging weights takes dozens of small programs
        "HF_HUB_OFFLINE": "1",
        "UNO_BENCHMARK_START": repr(time.time()),
    }
    return dict(os.environ) | settings


def succeeded(results: Results, parts: Sequence[Part]) -> bool:
    """Whether every part was done."""
    return all(results.part(part.name).get("status") == DONE for part in parts)
