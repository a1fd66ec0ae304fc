"""Damaged pictures, safetensors files, lists and configs for their readers, for some minutes.

    python -m benchmarks.fuzz --minutes 5

Every reader gets an equal share of the time, in a process of its own (`child`). Where atheris is installed
damages are guided by what the readers' code does with them, otherwise they are drawn. Prints a row for each,
then what was neither read nor refused with the reader's own error, once for each place in the code; exits 1
where there is any.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.fuzz.targets import TARGETS
from benchmarks.measure import table

LATE = 120.0  # seconds beyond its share after which a process is stopped: a read hangs


def run_target(name: str, seconds: float, seed: int, keep: Path) -> dict[str, Any]:
    """What `child` tells; a child that ends otherwise is a failure too."""
    words = [sys.executable, "-m", "benchmarks.fuzz.child", name, str(seconds), str(seed), str(keep)]
    try:
        ended = subprocess.run(words, capture_output=True, timeout=seconds + LATE, check=False)
    except subprocess.TimeoutExpired:
        return {"executions": 0, "failures": {"a read hangs": 1}}
    told = keep / "told.json"
    if ended.returncode or not told.is_file():
        last = (ended.stderr.decode(errors="replace").strip().splitlines() or ["nothing told"])[-1]
        return {"executions": 0, "failures": {f"the process ended with {ended.returncode}: {last}": 1}}
    found: dict[str, Any] = json.loads(told.read_text())
    return found if found["executions"] else {"executions": 0, "failures": {"nothing was read": 1}}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="over all readers")
    parser.add_argument("--only", choices=TARGETS, help="one reader alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files of failures")
    args = parser.parse_args()
    if not 0 < args.minutes < float("inf"):
        parser.error(f"--minutes must be more than 0, got {args.minutes}")
    chosen = [args.only] if args.only else list(TARGETS)
    rows, failures = [], []
    with tempfile.TemporaryDirectory() as name:
        for target in chosen:
            keep = (args.keep or Path(name)) / target
            keep.mkdir(parents=True, exist_ok=True)
            found = run_target(target, 60 * args.minutes / len(chosen), args.seed, keep)
            rows.append((target, f"{found['executions']:,}", len(found["failures"])))
            failures += [f"{target}: {place} ({count})" for place, count in found["failures"].items()]
    guided = "guided by atheris" if importlib.util.find_spec("atheris") else "drawn: atheris is not installed"
    print(table(("reader", "executions", "distinct failures"), rows) + f"\n\ndamages {guided}")
    print("\n".join(failures))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
