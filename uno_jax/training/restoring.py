"""A run's checkpoints read again: to continue it bit for bit, or to start another run from it.

Where the newest is damaged, the newest intact one is taken, and that is said. A checkpoint without
digests.json, as versions before 0.3 wrote them, counts as damaged when it cannot be read.
"""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from tqdm import tqdm

from uno_jax.sharding.processes import everywhere, is_first_process, wait_for_all
from uno_jax.support.digests import check_digests, read_digests
from uno_jax.support.errors import RecipeError
from uno_jax.support.json_files import JsonError, read_json
from uno_jax.support.settings import to_dict
from uno_jax.training.checkpoints import (
    changed_fields,
    check_times,
    complete_recipe,
    last_step,
    open_checkpoints,
    way_on,
)
from uno_jax.training.config import TrainConfig
from uno_jax.training.optimizer import with_schedule_from_start
from uno_jax.training.state import TrainState
from uno_jax.weights.arrays import orbax_path
from uno_jax.weights.integrity import verification

ASIDE = "damaged"  # the folder in a working directory for checkpoints that cannot be continued


class DamagedCheckpoint(Exception):
    """A checkpoint's files are not those that were written, or cannot be read; says why."""


class Found(NamedTuple):
    """The newest intact checkpoint, what was read of it, and why each newer one is none, by its step."""

    number: int
    value: Any
    damaged: dict[int, str]


def as_begun(config: TrainConfig) -> TrainConfig:
    """The recipe; with batches of mean shapes where the run in its working directory began with these, which
    every run on a list without sizes did before `data.buckets` was a choice.
    """
    if config.data.buckets == "mean" or last_step(config) is None:
        return config
    with open_checkpoints(config) as checkpoints:
        found = newest_intact(checkpoints, lambda number: recorded_recipe(checkpoints, number), "recipe/")
    if found is None or found.value["data"]["buckets"] != "mean":
        return config
    tqdm.write(f"{config.workdir} goes on with batches of mean shapes, as it began (data.buckets mean)")
    return dataclasses.replace(config, data=dataclasses.replace(config.data, buckets="mean"))


def restore_checkpoint(
    checkpoints: ocp.CheckpointManager,
    config: TrainConfig,
    state: TrainState,
    batches: Any,
    only_read: bool = False,
) -> TrainState:
    """The newest intact checkpoint's state, with `batches` moved to its position; `state` itself when there
    is none. Damaged ones that are newer are moved to WORKDIR/damaged, unless `only_read`.

    Raises RecipeError, naming every field that differs, when the recipe is not the saved one, and where every
    checkpoint is damaged.
    """

    def read(number: int) -> TrainState:
        recipe = recorded_recipe(checkpoints, number)
        if changes := changed_fields(recipe, to_dict(config)):
            raise RecipeError(
                f"{checkpoints.directory} has checkpoints of another recipe: {'; '.join(changes)}. "
                f"{way_on(checkpoints, recipe, config)}"
            )
        position = read_json(folder_of(checkpoints, number) / "data" / "metadata")
        restored = read_state(checkpoints, number, state)
        batches.set_state(position)
        return restored

    if (found := newest_intact(checkpoints, read)) is None:
        return state
    report_damage(checkpoints, found, [] if only_read else set_aside(checkpoints, list(found.damaged)))
    restored: TrainState = found.value
    return restored


def carry_on(workdir: str, state: TrainState) -> TrainState:
    """The state of another run's newest intact checkpoint, with steps and learning-rate schedule from the
    start.

    Raises RecipeError when there is none, or when its arrays are not this run's.
    """
    path = orbax_path(Path(workdir)) / "checkpoints"
    if not path.is_dir():
        raise RecipeError(f"init_run: no checkpoints in {workdir}; give the working directory of a run")
    check_times(path)
    with ocp.CheckpointManager(path) as checkpoints:
        try:
            found = newest_intact(checkpoints, lambda number: read_state(checkpoints, number, state))
        except RecipeError as error:
            raise RecipeError(f"init_run: {path} does not fit this run: {error}") from error
        if found is None:
            raise RecipeError(f"init_run: {path} holds no complete checkpoint")
        report_damage(checkpoints, found, [])
    opt_state = with_schedule_from_start(found.value.opt_state)
    carried: TrainState = found.value._replace(step=state.step, skipped=state.skipped, opt_state=opt_state)
    return carried


def newest_intact(
    checkpoints: ocp.CheckpointManager, read: Callable[[int], Any], part: str = ""
) -> Found | None:
    """What `read` makes of the newest checkpoint whose files are intact, of which those are checked whose
    paths begin with `part`; None where there are no checkpoints.

    Raises RecipeError where all are damaged, and for an intact one that cannot be read.
    """
    damaged: dict[int, str] = {}
    for number in sorted(checkpoints.all_steps(), reverse=True):
        folder, reason, known = folder_of(checkpoints, number), "", False
        try:
            known = check_files(folder, part)
        except DamagedCheckpoint as error:
            reason = str(error)
        if everywhere(not reason):
            try:
                return Found(number, read(number), damaged)
            except (DamagedCheckpoint, JsonError, FileNotFoundError) as error:
                reason = str(error)
                # What was written so is not damaged, and other processes may have read it.
                if known or jax.process_count() > 1:
                    raise RecipeError(f"the checkpoint {folder} cannot be read: {reason}") from error
        damaged[number] = reason or "another process of the run found it damaged"
    if not damaged:
        return None
    each = "; ".join(f"step {number}: {reason}" for number, reason in damaged.items())
    raise RecipeError(
        f"every checkpoint in {checkpoints.directory} is damaged ({each}). Bring one back from a copy, or "
        "start again in another workdir"
    )


def check_files(folder: Path, part: str = "") -> bool:
    """Whether a checkpoint has digests, after checking this process's share of the files by them.

    Raises DamagedCheckpoint.
    """
    if verification() == "never":
        return False
    digests = read_digests(folder, DamagedCheckpoint)
    names = sorted(name for name in digests if name.startswith(part))
    share = names[jax.process_index() :: jax.process_count()]
    check_digests(folder, {name: digests[name] for name in share}, DamagedCheckpoint)
    return bool(digests)


def set_aside(checkpoints: ocp.CheckpointManager, numbers: list[int]) -> list[Path]:
    """Moves checkpoints out of the run's, which would otherwise take their steps for saved; returns where
    they are.
    """
    if not numbers:
        return []
    aside = Path(checkpoints.directory).parent / ASIDE
    places = []
    for number in numbers:
        names = [f"{number}", *(f"{number}.{copy}" for copy in range(1, 1000))]
        places.append(next(aside / name for name in names if not (aside / name).exists()))
    wait_for_all("named damaged checkpoints")
    if is_first_process():
        aside.mkdir(exist_ok=True)
        for number, place in zip(numbers, places, strict=True):
            os.replace(folder_of(checkpoints, number), place)
    wait_for_all("moved damaged checkpoints")
    checkpoints.reload()
    return places


def report_damage(checkpoints: ocp.CheckpointManager, found: Found, places: list[Path]) -> None:
    """Prints a line where an older checkpoint than the newest is used."""
    if found.damaged and is_first_process():
        each = "; ".join(f"step {number}: {reason}" for number, reason in found.damaged.items())
        kept = f". Kept as {', '.join(map(str, places))}" if places else ""
        tqdm.write(
            f"{checkpoints.directory}: damaged, {each}. Step {found.number} before it is used instead{kept}"
        )


def folder_of(checkpoints: ocp.CheckpointManager, number: int) -> Path:
    return Path(checkpoints.directory) / str(number)


def recorded_recipe(checkpoints: ocp.CheckpointManager, number: int) -> dict[str, Any]:
    """The recipe of a checkpoint with every field.

    Raises FileNotFoundError, JsonError, or DamagedCheckpoint where it is none.
    """
    recorded = read_json(folder_of(checkpoints, number) / "recipe" / "metadata")
    try:
        return complete_recipe(recorded)
    except ValueError as error:
        raise DamagedCheckpoint(f"recipe: {error}") from None


def read_state(checkpoints: ocp.CheckpointManager, number: int, state: TrainState) -> TrainState:
    """The state of a checkpoint, whose arrays are placed as those of `state`.

    Raises DamagedCheckpoint.
    """
    shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, state._asdict())
    parts = ocp.args.Composite(state=ocp.args.StandardRestore(shapes))
    try:
        return TrainState(**checkpoints.restore(number, args=parts)["state"])
    except Exception as error:  # orbax raises bare ones
        if is_of_the_machine(error):
            raise
        raise DamagedCheckpoint((str(error).splitlines() or [type(error).__name__])[0]) from error


def is_of_the_machine(error: Exception) -> bool:
    """Whether an error is not the checkpoint's: no memory, no permission, too many files."""
    of_files = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
    return "RESOURCE_EXHAUSTED" in str(error) or (isinstance(error, OSError) and not of_files)
