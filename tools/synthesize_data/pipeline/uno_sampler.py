"""Pictures by `python -m uno_jax.sample`: a list of jobs, one start of the program, pictures in order.

work/HASH in the run's folder holds the list and the program's output. The program keeps finished pictures
there, so that a killed run continues where it stopped.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from uno_jax.support.images import read_image
from uno_jax.support.programs import started

from ...common.errors import ToolError
from ...common.memory import OutOfMemoryError
from .image_files import save_image

TAIL = 4000  # characters kept of the program's output, for its error


class Wanted(NamedTuple):
    """A picture to be made; references are paths relative to the run's folder."""

    prompt: str
    width: int
    height: int
    seed: int
    references: tuple[str, ...] = ()
    left: str = ""  # path of the left panel of two, when it is given


class Sampler:
    """The program with its settings. `arguments` come last, and so override the others."""

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
            raise ToolError("the model of uno_jax.sample is empty: name a directory, or small")
        self.folder = folder.absolute()
        self.options = ["--model", model, "--steps", str(steps), "--guidance", str(guidance)]
        self.options += (["--lora", lora] if lora else []) + list(arguments)

    def __call__(self, wanted: Sequence[Wanted], stage: str, ids: Sequence[str]) -> list[str]:
        """Makes the pictures, saves them as those of the rows `ids`, and returns their paths.

        Raises ToolError with the program's error, OutOfMemoryError when device memory ran out.
        """
        entries = [self.entry(each) for each in wanted]
        digest = hashlib.sha256(json.dumps([self.options, entries]).encode()).hexdigest()[:20]
        work = self.folder / "work" / digest
        work.mkdir(parents=True, exist_ok=True)
        jobs = work / "jobs.json"
        jobs.write_text(json.dumps(entries, indent=1, ensure_ascii=False), encoding="utf-8")
        files = ["--jobs", str(jobs), "--out", str(work)]
        run_program([sys.executable, "-m", "uno_jax.sample", *files, *self.options])
        paths = [self.store(work / f"{index}_0.png", stage, id) for index, id in enumerate(ids)]
        shutil.rmtree(work)
        return paths

    def entry(self, wanted: Wanted) -> dict:
        """The entry of `uno_jax.sample --jobs`."""
        own = {"width": wanted.width, "height": wanted.height, "seed": wanted.seed}
        references = [str(self.folder / path) for path in wanted.references]
        left = {"left_path": str(self.folder / wanted.left)} if wanted.left else {}
        return {"prompt": wanted.prompt, "image_paths": references, **own, **left}

    def store(self, made: Path, stage: str, id: str) -> str:
        return save_image(read_image(made), self.folder, stage, id)


def run_program(command: Sequence[str]) -> None:
    """Runs a program of uno_jax and passes its stderr on.

    Raises ToolError or OutOfMemoryError.
    """
    tail = ""
    with started(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, bufsize=0) as program:
        assert program.stderr is not None
        # Unbuffered rather than by lines: a progress bar writes no line ends.
        while chunk := program.stderr.read(4096):
            text = chunk.decode(errors="replace")
            sys.stderr.write(text)
            sys.stderr.flush()
            tail = (tail + text)[-TAIL:]
    if program.returncode == 0:
        return
    message = last_message(tail)
    if "out of device memory" in message:
        raise OutOfMemoryError(message)
    end = f"signal {-program.returncode}" if program.returncode < 0 else f"exit {program.returncode}"
    raise ToolError(
        f"{command[2]} ended with {end}: {message}; finished pictures are kept, the same command continues"
    )


def last_message(tail: str) -> str:
    """The text after the last "error: ", or else the last line."""
    _, found, message = tail.rpartition("error: ")
    lines = [line.strip() for line in (message if found else tail).splitlines() if line.strip()]
    return " ".join(lines if found else lines[-1:]) or "it printed nothing"
