"""Every command that writes, ended at random moments and started again: what it leaves must equal what an
undisturbed run leaves, file by file and byte by byte (`state.py` says what is left out, times and rates).

    python -m benchmarks.kills --out FOLDER                     # about 300 kills
    python -m benchmarks.kills --out FOLDER --only train sample --kills 20
    python -m benchmarks.kills --out FOLDER --only train --by SIGTERM SIGHUP SIGINT --kills 20
    python -m benchmarks.kills --out FOLDER --by full --kills 3  # a full disk; as root

A kill comes at a random time of the run, at a random change that it makes to files, or shortly after one.
Exits 1 on a difference, a hang, a traceback, or a command that does not go on.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.kills import full_disk, inputs, process
from benchmarks.kills.process import Ended, Moment, choose_moment
from benchmarks.kills.state import differences, left_over, state_of
from benchmarks.kills.writers import WRITERS, Writer, fork_programs

IMPORTS = (
    "array_record.python.array_record_module",
    "flax",
    "grain",
    "matplotlib.pyplot",
    "optax",
    "orbax.checkpoint",
    "tensorboardX",
    "torch",
    "transformers",
    "uno_jax.ablate",
    "uno_jax.data.__main__",
    "uno_jax.encodings",
    "uno_jax.evaluate",
    "uno_jax.report",
    "uno_jax.sample",
    "uno_jax.toybox.draw",
    "uno_jax.train",
    "uno_jax.train_small",
    "tools.convert_weights.__main__",
    "tools.synthesize_data.__main__",
)
IN_A_ROW = 4
"""At most so many kills before a run is left to finish and compared."""
STARTS = 200


class Found(NamedTuple):
    """What became of a writer's runs."""

    kills: int
    starts: int
    compared: int
    faults: list[str]
    left: set[str]
    seconds: float


class Place(NamedTuple):
    """The folders of a writer: what it reads, and what it writes, `work`/out."""

    read: Path
    work: Path
    log: Path

    @property
    def out(self) -> Path:
        return self.work / "out"


def prepare(place: Place, writer: Writer) -> None:
    """Makes the writer's inputs, each kind once."""
    for make in (inputs.write_basics, *writer.needs):
        done = place.read / f".{make.__name__}.made"
        if not done.exists():
            process.call(lambda make=make: make(place.read), place.log.parent)
            done.touch()


def begin(place: Place, writer: Writer) -> None:
    """What the writer begins with, from nothing."""
    for path in place.work.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if writer.start is not None:
        process.call(lambda: writer.start(place.read, place.out), place.log.parent)


def start(place: Place, writer: Writer, moment: Moment | None = None) -> Ended:
    def command() -> None:
        # Programs that are not forked have the signals and messages of a terminal.
        if moment is None or moment.number == signal.SIGKILL:
            fork_programs()
        writer.run(place.read, place.out)

    return process.run(command, place.work, place.log, moment)


def is_over(place: Place, writer: Writer, ended: Ended) -> bool:
    """Whether all is written: the command says so, or refuses to replace what it finds finished."""
    finished = bool(writer.last) and (place.out / writer.last).is_file()
    return ended.code == 0 or ended.code == 2 and finished


def whole_run(place: Place, writer: Writer) -> tuple[Ended, dict[str, str]]:
    """An undisturbed run, after one that fills the compilation cache, and what it leaves."""
    for _ in range(2):
        begin(place, writer)
        ended = start(place, writer)
        if ended.code:
            raise RuntimeError(f"{writer.name}: undisturbed, exit {ended.code}: {ended.output[-3000:]}")
    return ended, process.call(lambda: state_of(place.work), place.log.parent)


def finish(place: Place, writer: Writer, expected: dict[str, str]) -> tuple[list[str], list[str]]:
    """Runs the command to its end; faults, and files too many."""
    ended = start(place, writer)
    if not is_over(place, writer, ended):
        return [f"does not go on, exit {ended.code}: {ended.output[-2000:]}"], []
    found = process.call(lambda: state_of(place.work), place.log.parent)
    return differences(expected, found), left_over(expected, found)


def ends_well(ended: Ended, number: int) -> bool:
    """Whether a command that a signal ended says so in its exit status, without a traceback."""
    if number == signal.SIGKILL:
        return ended.code != process.HUNG
    fine = {0, 130} if number == signal.SIGINT else {0, -number}
    return ended.code in fine and "Traceback" not in ended.output


def disturb(place: Place, writer: Writer, number: int, kills: int, rng: random.Random) -> Found:
    """Ends runs of a writer until there are `kills`, each time up to IN_A_ROW in a row."""
    begun = time.monotonic()
    whole, expected = whole_run(place, writer)
    made = starts = compared = 0
    faults: list[str] = []
    left: set[str] = set()
    while made < kills and starts < STARTS:
        begin(place, writer)
        row = []
        for _ in range(rng.randint(1, min(IN_A_ROW, kills - made))):
            moment = choose_moment(rng, number, whole)
            ended = start(place, writer, moment)
            starts += 1
            if not ends_well(ended, number):
                faults.append(f"{moment}: exit {ended.code}: {ended.output[-2000:]}")
            if ended.code != -signal.SIGKILL and is_over(place, writer, ended) and number == signal.SIGKILL:
                break
            made += 1
            row.append(moment)
        wrong, surplus = finish(place, writer, expected)
        starts, compared, left = starts + 1, compared + 1, left | set(surplus)
        faults += [f"after {row}: {each}" for each in wrong]
        if wrong:
            keep = place.work.with_name(f"fault-{compared}")
            shutil.copytree(place.work, keep, dirs_exist_ok=True)
    return Found(made, starts, compared, faults, left, time.monotonic() - begun)


def all_writers() -> Iterator[Writer]:
    from benchmarks.kills.synthesis import stage_writers

    yield from WRITERS
    yield from stage_writers()


def table_line(writer: Writer, by: str, found: Found) -> str:
    cells = (writer.name, by, found.kills, found.starts, found.compared, len(found.faults), len(found.left))
    return "| " + " | ".join(map(str, cells)) + f" | {found.seconds:.0f} s |"


def options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for what the runs write")
    parser.add_argument("--only", nargs="*", default=[], help="names of writers, or their first words")
    parser.add_argument(
        "--by", nargs="*", default=["SIGKILL"], choices=("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT", "full")
    )
    parser.add_argument("--kills", type=int, help="kills of each writer; default each one's own number")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def chosen_writers(names: Sequence[str]) -> list[Writer]:
    """The writers of these names or first words; all without any.

    Exits with a message for a name of none.
    """
    writers = list(all_writers())
    found = {
        name: [writer for writer in writers if f"{writer.name} ".startswith(f"{name} ")] for name in names
    }
    if unknown := [name for name, each in found.items() if not each]:
        known = ", ".join(writer.name for writer in writers)
        sys.exit(f"--only {', '.join(unknown)}: no such writer; there are {known}")
    return [writer for writer in writers if not names or any(writer in each for each in found.values())]


def main() -> None:
    args = options()
    writers = chosen_writers(args.only)
    folder = args.out.absolute()
    for name in ("inputs", "work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "cache"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    for module in IMPORTS:
        __import__(module)
    place = Place(folder / "inputs", folder / "work", folder / "run.log")
    print("| writer | ended by | ends | starts | compared | faults | left over | took |\n" + "|---" * 8 + "|")
    failed = False
    for writer in writers:
        prepare(place, writer)
        for by in args.by:
            rng = random.Random(f"{args.seed} {writer.name} {by}")
            if by == "full":
                found = fill(place, writer, args.kills or 3, rng)
            else:
                found = disturb(place, writer, signal.Signals[by], args.kills or writer.kills, rng)
            print(table_line(writer, by, found), flush=True)
            for line in (*found.faults, *(f"left over: {name}" for name in sorted(found.left)[:20])):
                print(f"    {line}", file=sys.stderr, flush=True)
            failed |= bool(found.faults)
    sys.exit(int(failed))


def fill(place: Place, writer: Writer, times: int, rng: random.Random) -> Found:
    """Runs of a writer on a file system that is too small, and then is not."""
    begun = time.monotonic()
    _, expected = whole_run(place, writer)
    nbytes = full_disk.used(place.work)
    starts, faults, left = 0, [], set()
    for _ in range(times):
        shutil.rmtree(place.work)
        place.work.mkdir()
        with full_disk.small_disk(place.work) as resize:
            resize(full_disk.ENOUGH)
            begin(place, writer)
            least = full_disk.used(place.work)
            resize(room := least + round(rng.uniform(0.02, 1) * (nbytes - least)))
            ended = start(place, writer, Moment(signal.SIGTERM, 0.0, -1))
            faults += full_disk.faults_of(ended, room)
            resize(full_disk.ENOUGH)
            wrong, surplus = finish(place, writer, expected)
            starts, left = starts + 2, left | set(surplus)
            faults += [f"after {room} bytes of disk: {each}" for each in wrong]
    return Found(times, starts, times, faults, left, time.monotonic() - begun)


if __name__ == "__main__":
    main()
