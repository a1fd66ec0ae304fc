"""The demo, by the commands that a user would run: the shipped small UNO draws subjects it has never seen,
then learns for a minute, is stopped and continues.

Out: demo/index.html and demo.png (references, prompt, result), and in demo/ everything that the commands
write. A second run keeps the pictures and trains on.
"""

import contextlib
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jinja2

from uno_jax.data.records import Record, read_list
from uno_jax.support.atomic import atomic_write, check_output_folder
from uno_jax.support.bounds import Bounds
from uno_jax.support.contact_sheet import Row, above_one_another, contact_sheet
from uno_jax.support.folder_lock import locked
from uno_jax.support.images import read_image
from uno_jax.support.json_files import check_fields, parse_json
from uno_jax.support.programs import started
from uno_jax.weights.names import SMALL, find_model

PAGE = Path(__file__).with_name("tour.html.j2")
COUNTS = {1: 6, 2: 4}  # number of references -> number of prompts with them
ABREAST = {1: 3, 2: 2}  # of them, on the sheet
AGAIN = 5.0  # seconds of training after the stop, to show that it continues


@dataclass(frozen=True)
class TourArgs:
    """Draw with the small model, train it for a minute and continue: OUT/demo/index.html and OUT/demo.png."""

    out: Path = Path("out")
    """Directory for demo.png and demo/."""
    model: str = SMALL
    """Model to show, of the small preset: a directory of converted networks, or small for the shipped one."""
    seconds: Annotated[float, Bounds(0, 1_000_000, above=True)] = 60.0
    """Seconds of training, counted from its first step."""


def drawing_commands(work: Path, model: str) -> list[list[str]]:
    """The commands that make the references, of subjects that are not trained on, and the pictures."""
    commands = []
    for references, count in COUNTS.items():
        place = work / f"{references}_references"
        pairs, numbers = place / "pairs.json", ["--count", str(count), "--references", str(references)]
        if not pairs.is_file():
            made = ["--out", str(place), "--split", "val", "--size", "128", *numbers, "--seed", "3"]
            commands.append(["uno_jax.toybox", *made])
        drawn = ["--model", model, "--jobs", str(pairs), "--batch-size", str(count)]
        commands.append(["uno_jax.sample", *drawn, "--out", str(place / "samples"), "--overwrite"])
    return commands


def training_commands(work: Path, model: str) -> list[list[str]]:
    """The commands that make pairs and train on them."""
    pairs = work / "train" / "pairs.json"
    make = ["uno_jax.toybox", "--out", str(pairs.parent), "--count", "500", "--size", "128"]
    data = ["--weights", model, "--data.path", str(pairs), "--workdir", str(work / "run")]
    learn = ["uno_jax.train", "--config", "configs/small_stage1.py", *data, "--batch-size", "4"]
    # The recipe's unroll makes steps faster, but takes longer to compile than they take here.
    return [*([] if pairs.is_file() else [make]), [*learn, "--unroll", "1", "--log-every", "1"]]


@contextlib.contextmanager
def start_command(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Prints and starts `python -m COMMAND`, then waits for it; exits with its code when it fails."""
    print(f"\n$ python -m {shlex.join(command)}", flush=True)
    with started([sys.executable, "-m", *command]) as process:
        yield process
    if process.returncode:
        sys.exit(process.returncode)


def run_command(command: list[str]) -> None:
    with start_command(command):
        pass


def train_for(command: list[str], seconds: float, log: Path) -> int:
    """Lets a run take steps for `seconds`, then sends SIGTERM, at which it saves; returns its last step."""
    before = last_step(log)
    with start_command(command) as process:
        while process.poll() is None and last_step(log) <= before:
            time.sleep(0.2)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            print(f"\nSIGTERM after {seconds:.0f} seconds of steps", flush=True)
            process.terminate()
    return last_step(log)


def last_step(log: Path) -> int:
    """The last step in a metrics.jsonl; 0 when there is none yet."""
    lines = log.read_text().splitlines() if log.is_file() else []
    return check_fields(parse_json(lines[-1], str(log)), {"step": int}, str(log))["step"] if lines else 0


def drawn_pictures(work: Path, references: int) -> Iterator[tuple[Record, Path]]:
    """Every prompt with so many references, and its picture."""
    place = work / f"{references}_references"
    for index, record in enumerate(read_list(place / "pairs.json")):
        yield record, place / "samples" / f"{index}_0.png"


def write_results(out: Path, commands: list[list[str]], steps: list[int]) -> None:
    """Writes demo.png and index.html. `steps` are the last steps before, between and after the two runs."""
    work, sheets, entries = out / "demo", [], []
    for references, abreast in ABREAST.items():
        rows = []
        for record, sample in drawn_pictures(work, references):
            paths = [*map(Path, record.refs), sample]
            rows.append(Row([read_image(str(path)) for path in paths], record.prompt))
            names = [str(path.relative_to(work)) for path in paths]
            entries.append({"prompt": record.prompt, "refs": names[:-1], "sample": names[-1]})
        sheets.append(contact_sheet([*["reference"] * references, "result"], rows, abreast))
    with atomic_write(out / "demo.png") as partial:
        above_one_another(sheets).save(partial, format="png")
    page = jinja2.Template(PAGE.read_text(encoding="utf-8"), autoescape=True, trim_blocks=True)
    lines = [shlex.join(["python", "-m", *command]) for command in commands]
    with atomic_write(work / "index.html") as partial:
        partial.write_text(page.render(entries=entries, commands=lines, steps=steps), encoding="utf-8")


def give_tour(args: TourArgs) -> None:
    """Runs every command of the tour and shows what came of them.

    Raises ValueError or OSError saying what to change.
    """
    work = args.out / "demo"
    log = work / "run" / "metrics.jsonl"
    find_model(args.model)
    check_output_folder("--out", args.out)
    with locked(work):
        samples, (*make, learn) = drawing_commands(work, args.model), training_commands(work, args.model)
        for command in [*samples, *make]:
            run_command(command)
        steps = [last_step(log), *(train_for(learn, seconds, log) for seconds in (args.seconds, AGAIN))]
        write_results(args.out, [*samples, *make, learn, learn], steps)
    print(f"\nwrote {args.out / 'demo.png'} and {work / 'index.html'}")
