"""Where a run's numbers and pictures go: metrics.jsonl, TensorBoard, and W&B when the recipe asks for it.

In: a step's number and values by name: numbers (None: unknown or not finite), names of records, pictures. A
writer takes what it can show. What a killed run logged of steps that are taken again is dropped or hidden.
"""

import contextlib
import importlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from uno_jax.sharding.processes import is_first_process
from uno_jax.support.atomic import atomic_write, refuse_device
from uno_jax.support.errors import RecipeError
from uno_jax.support.json_files import JsonError, check_fields, parse_json
from uno_jax.support.settings import to_dict
from uno_jax.training.config import TrainConfig

Value = float | None | list[str] | Image.Image
Writer = Callable[[int, Mapping[str, Value]], None]


@contextlib.contextmanager
def open_writers(config: TrainConfig, number: int) -> Iterator[list[Writer]]:
    """The recipe's writers, for a run that has taken `number` steps; empty except in the first process."""
    workdir = Path(config.workdir)
    with contextlib.ExitStack() as opened:
        if not is_first_process():
            yield []
            return
        kinds = [jsonl(workdir / "metrics.jsonl", number), tensorboard(workdir / "tensorboard", number)]
        if config.wandb_project:
            kinds.append(wandb(config))
        yield [opened.enter_context(kind) for kind in kinds]


@contextlib.contextmanager
def jsonl(path: Path, number: int) -> Iterator[Writer]:
    """One JSON object a line.

    Raises OSError for a device or a pipe.
    """
    refuse_device(path)
    keep_lines(path, lambda line: check_fields(line, {"step": float}, "line")["step"] <= number)
    with path.open("a", buffering=1) as file:

        def write(number: int, values: Mapping[str, Value]) -> None:
            plain = {name: value for name, value in values.items() if not isinstance(value, Image.Image)}
            if plain:
                file.write(json.dumps({"step": number, **plain}) + "\n")

        yield write


def keep_lines(path: Path, is_kept: Callable[[Any], bool]) -> None:
    """Drops lines of a log, where there is one, and those that are no JSON, as a killed run's last one.
    `is_kept` may raise JsonError for a line that it cannot read.
    """
    if not path.is_file():
        return
    written = path.read_text(encoding="utf-8", errors="replace")
    kept = "".join(f"{line}\n" for line in written.splitlines() if _is_kept(line, is_kept))
    if kept != written:
        with atomic_write(path) as partial:
            partial.write_text(kept, encoding="utf-8")


def _is_kept(line: str, is_kept: Callable[[Any], bool]) -> bool:
    try:
        return is_kept(parse_json(line, "line"))
    except JsonError:
        return False


@contextlib.contextmanager
def tensorboard(folder: Path, number: int) -> Iterator[Writer]:
    """Event files. They are not written by tensorboardX's own thread, which a full disk ends silently, so
    that the run would wait for it forever.
    """
    # Imported late: it imports PyTorch where that is installed, which takes seconds.
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    folder.mkdir(parents=True, exist_ok=True)
    events = EventsWriter(str(folder / "events"), f".{number}")

    def write(number: int, values: Mapping[str, Value]) -> None:
        for name, value in values.items():
            if isinstance(value, Image.Image):
                made = summary.image(name, np.asarray(value), dataformats="HWC")
            elif isinstance(value, int | float):
                made = summary.scalar(name, value)
            else:
                continue
            events.write_event(Event(step=number, wall_time=time.time(), summary=made))
        events.flush()

    # TensorBoard hides what earlier files hold from this step on.
    start = SessionLog(status=SessionLog.START)
    events.write_event(Event(step=number + 1, wall_time=time.time(), session_log=start))
    try:
        yield write
    finally:
        events.close()


@contextlib.contextmanager
def wandb(config: TrainConfig) -> Iterator[Writer]:
    """A W&B run, the same one whenever this working directory's run continues.

    Raises RecipeError where W&B refuses the login.
    """
    package = importlib.import_module("wandb")
    known = Path(config.workdir) / "wandb_run"
    run_id = known.read_text() if known.is_file() else None
    where = {"project": config.wandb_project, "dir": config.workdir, "id": run_id, "resume": "allow"}
    try:
        opened = package.init(config=to_dict(config), **where)
    except package.Error as error:
        raise RecipeError(
            f"wandb_project {config.wandb_project}: {error} (or set WANDB_MODE=offline)"
        ) from None
    with opened as run:
        known.write_text(run.id)

        def write(number: int, values: Mapping[str, Value]) -> None:
            shown = {
                name: package.Image(value) if isinstance(value, Image.Image) else value
                for name, value in values.items()
                if isinstance(value, Image.Image | int | float)
            }
            run.log(shown, step=number)

        yield write
