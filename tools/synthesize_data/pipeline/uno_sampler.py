"""Pictures by `python -m uno_jax.sample`: a list of jobs, one start of the program, pictures in order.

HASH/ in the run's work/ holds the list and what the program makes of it; it keeps finished pictures there, so
that a killed run goes on where it was.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ...common.manifest import SynthesisError
from . import image_files
from .engine import OutOfMemoryError

TAIL = 4000  # characters of the program's last words


class Wanted(NamedTuple):
    """One picture; references are paths relative to the run's folder."""

    prompt: str
    width: int
    height: int
    seed: int
    references: tuple[str, ...] = ()
    left: str = ""  # of two panels, the one that is given; a path as those


class Sampler:
    """The program with its settings. `arguments` come last, and so win."""

    def __init__(
        self,
        folder: Path,
        model: str,
        steps: int,
        guidance: float,
        arguments: Sequence[str] = (),
        lora: str = "",
    ):
        if not model:
            raise SynthesisError("the model of uno_jax.sample is empty: name a directory, or small")
        self.folder = folder.absolute()
        self.options = ["--model", model, "--steps", str(steps), "--guidance", str(guidance)]
        self.options += (["--lora", lora] if lora else []) + list(arguments)

    def __call__(self, wanted: Sequence[Wanted], stage: str, ids: Sequence[str]) -> list[str]:
        """Makes the pictures and stores them as those rows'; their paths.

        Raises SynthesisError with the program's last words, OutOfMemoryError when the device is full.
        """
        entries = [self.entry(each) for each in wanted]
        digest = hashlib.sha256(json.dumps([self.options, entries]).encode()).hexdigest()[:20]
        work = self.folder / "work" / digest
        work.mkdir(parents=True, exist_ok=True)
        jobs = work / "jobs.json"
        jobs.write_text(json.dumps(entries, indent=1, ensure_ascii=False), encoding="utf-8")
        run([sys.executable, "-m", "uno_jax.sample", "--jobs", str(jobs), "--out", str(work), *self.options])
        paths = [self.store(work / f"{index}_0.png", stage, id) for index, id in enumerate(ids)]
        shutil.rmtree(work)
        return paths

    def entry(self, wanted: Wanted) -> dict:
        """In the form of `uno_jax.sample --jobs`."""
        own = {"width": wanted.width, "height": wanted.height, "seed": wanted.seed}
        references = [str(self.folder / path) for path in wanted.references]
        left = {"left_path": str(self.folder / wanted.left)} if wanted.left else {}
        return {"prompt": wanted.prompt, "image_paths": references, **own, **left}

    def store(self, made: Path, stage: str, id: str) -> str:
        with Image.open(made) as image:
            return image_files.save(image, self.folder, stage, id)


def run(command: Sequence[str]) -> None:
    """Runs a program of uno_jax, passing on what it writes to stderr. Raises SynthesisError or
    OutOfMemoryError.
    """
    tail = ""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as program:
        assert program.stderr is not None
        # As it comes and not by lines: a progress bar has none.
        while chunk := program.stderr.read1(4096):
            text = chunk.decode(errors="replace")
            sys.stderr.write(text)
            sys.stderr.flush()
            tail = (tail + text)[-TAIL:]
    if program.returncode == 0:
        return
    told = last_words(tail)
    if "out of device memory" in told:
        raise OutOfMemoryError(told)
    how = f"signal {-program.returncode}" if program.returncode < 0 else f"exit {program.returncode}"
    raise SynthesisError(
        f"{command[2]} ended with {how}: {told}; what it had made is kept, the same command goes on"
    )


def last_words(tail: str) -> str:
    """What follows the last "error: ", else the last line."""
    _, found, told = tail.rpartition("error: ")
    lines = [line.strip() for line in (told if found else tail).splitlines() if line.strip()]
    return " ".join(lines if found else lines[-1:]) or "it said nothing"
