"""One reader for some seconds: python -m benchmarks.fuzz.child TARGET SECONDS SEED FOLDER

Writes told.json and the first file of each failure into the folder.
"""

import collections
import importlib
import importlib.util
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from random import Random
from typing import Any

LONGEST = 20  # seconds of one read
GUIDED = ("uno_jax", "tools", "PIL")  # packages whose branches guide atheris


class Tally:
    """Executions, and failures by their place; ends the process when the time is over."""

    def __init__(self, target: Any, seconds: float, folder: Path):
        self.target, self.folder = target, folder
        self.until = time.monotonic() + seconds
        self.executions = 0
        self.failures: collections.Counter[str] = collections.Counter()

    def read(self, content: bytes) -> None:
        """Reads one file, and counts it."""
        if time.monotonic() > self.until:
            self.tell()
        self.executions += 1
        signal.setitimer(signal.ITIMER_REAL, LONGEST)
        try:
            self.target.read(content)
        except Exception as error:
            self.count(error, content)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def count(self, error: Exception, content: bytes) -> None:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
        if place not in self.failures:
            (self.folder / f"failure{len(self.failures)}").write_bytes(content)
        self.failures[place] += 1

    def tell(self) -> None:
        told = {"executions": self.executions, "failures": self.failures}
        (self.folder / "told.json").write_text(json.dumps(told))
        os._exit(0)


def drawn(tally: Tally, seed: int) -> None:
    """Damages whole files, and damaged ones once more."""
    target, draw, last = tally.target, Random(seed), b""
    while True:
        whole = last if last and draw.random() < 0.2 else draw.choice(target.seeds)
        last = target.damage(draw, whole)
        tally.read(last)


def guided(atheris: Any, tally: Tally, seed: int) -> None:
    """Damages by libFuzzer, which keeps those that reach new branches, and by the target in turn."""
    corpus = tally.folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, content in enumerate(tally.target.seeds):
        (corpus / str(number)).write_bytes(content)

    def damage(content: bytes, most: int, number: int) -> bytes:
        if number % 2:
            return bytes(atheris.Mutate(content, most))
        return bytes(tally.target.damage(Random(number), content)[:most])

    words = ["fuzz", f"-seed={seed + 1}", "-rss_limit_mb=0", "-verbosity=0", str(corpus)]
    atheris.Setup(words, tally.read, custom_mutator=damage)
    atheris.Fuzz()


def main() -> None:
    name, seconds, seed, folder = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    atheris = importlib.import_module("atheris") if importlib.util.find_spec("atheris") else None
    if atheris:
        with atheris.instrument_imports(include=list(GUIDED), enable_loader_override=False):
            targets = importlib.import_module("benchmarks.fuzz.targets")
    else:
        targets = importlib.import_module("benchmarks.fuzz.targets")

    def too_long(number: int, frame: Any) -> None:
        raise TimeoutError(f"a read takes more than {LONGEST} s")

    signal.signal(signal.SIGALRM, too_long)
    tally = Tally(targets.TARGETS[name](), seconds, folder)
    if atheris:
        guided(atheris, tally, seed)
    drawn(tally, seed)


if __name__ == "__main__":
    main()
