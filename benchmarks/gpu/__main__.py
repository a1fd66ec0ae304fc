"""Measures the full-size model on one GPU within a few minutes.

    python -m benchmarks.gpu --minutes 5 --out DIR

Weights are random and made on the device. The parts run in their order of value; a part that fails, hangs or
runs out of memory loses its own figures only. Without a GPU the tiny model rehearses all of it.
"""

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from benchmarks.gpu.results import VELOCITY, Results, summary, write_report
from benchmarks.gpu.schedule import Run, chosen, run_parts, succeeded
from uno_jax.support.bounds import Bounds
from uno_jax.support.command_line import exit_on, parse_args


@dataclass(frozen=True)
class Args:
    """Measure one GPU: writes results.json, results.md and log.txt."""

    out: Path = Path("out/gpu")
    """Directory for the results; those of an earlier run are removed."""
    minutes: Annotated[float, Bounds(0, 1e9, above=True)] = 5.0
    """Time for all parts together."""
    model: Literal["auto", "flux_dev", "small", "tiny"] = "auto"
    """Preset of the model's sizes; auto is flux_dev on a GPU, and tiny without one."""
    parts: tuple[str, ...] = ()
    """Names of the parts to run; all by default."""
    cache: Path | None = None
    """JAX's compilation cache; by default a new one, so that first compilations are cold, removed at the end.
    """


def main(argv: Sequence[str] | None = None) -> None:
    end = time.monotonic()
    args = parse_args(Args, "python -m benchmarks.gpu", argv)
    end += 60 * args.minutes
    with exit_on(ValueError, OSError):
        parts = chosen(args.parts)
        args.out.mkdir(parents=True, exist_ok=True)
        for name in ("results.json", "results.md", "log.txt", VELOCITY):
            (args.out / name).unlink(missing_ok=True)
        cache = Path(tempfile.mkdtemp(prefix="uno-gpu-cache-")) if args.cache is None else args.cache
        out = args.out.resolve()
        results = Results(out)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a part is not left running
        results.update(asked=args.model, minutes=args.minutes)
        try:
            run_parts(Run(out, cache.resolve(), args.model, end), parts)
        finally:
            write_report(results)
            print(summary(results), flush=True)
            if args.cache is None:
                shutil.rmtree(cache, ignore_errors=True)
    sys.exit(0 if succeeded(results, parts) else 1)


if __name__ == "__main__":
    main()
