"""A run's checkpoints read again: to continue it bit for bit, or to start another run from it."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from tqdm import tqdm

from uno_jax.support.errors import RecipeError
from uno_jax.support.settings import to_dict
from uno_jax.training.checkpoints import (
    changed_fields,
    complete_recipe,
    last_step,
    open_checkpoints,
    way_on,
)
from uno_jax.training.config import TrainConfig
from uno_jax.training.optimizer import with_schedule_from_start
from uno_jax.training.state import TrainState


def as_begun(config: TrainConfig) -> TrainConfig:
    """The recipe; with batches of mean shapes where the run in its working directory began with these, which
    every run on a list without sizes did before `data.buckets` was a choice.
    """
    if config.data.buckets == "mean" or last_step(config) is None:
        return config
    with open_checkpoints(config) as checkpoints:
        number = checkpoints.latest_step()
        if number is None or _saved_recipe(checkpoints, number)["data"]["buckets"] != "mean":
            return config
    tqdm.write(f"{config.workdir} goes on with batches of mean shapes, as it began (data.buckets mean)")
    return dataclasses.replace(config, data=dataclasses.replace(config.data, buckets="mean"))


def restore_checkpoint(
    checkpoints: ocp.CheckpointManager, config: TrainConfig, state: TrainState, batches: Any
) -> TrainState:
    """The newest checkpoint's state, with `batches` moved to its position; `state` itself when there is none.

    Raises RecipeError, naming every field that differs, when the recipe is not the saved one; and for a
    damaged checkpoint.
    """
    number = checkpoints.latest_step()
    if number is None:
        return state
    recipe = _saved_recipe(checkpoints, number)
    if changes := changed_fields(recipe, to_dict(config)):
        raise RecipeError(
            f"{checkpoints.directory} has checkpoints of another recipe: {'; '.join(changes)}. "
            f"{way_on(checkpoints, recipe, config)}"
        )
    restored = _read_parts(checkpoints, number, state=_standard(state), data=ocp.args.JsonRestore())
    try:
        batches.set_state(restored["data"])
    except (KeyError, TypeError, AttributeError):
        raise RecipeError(_unreadable(checkpoints, number, "data holds no position")) from None
    return TrainState(**restored["state"])


def _saved_recipe(checkpoints: ocp.CheckpointManager, number: int) -> dict[str, Any]:
    """The recipe of a checkpoint with every field.

    Raises RecipeError.
    """
    recipe = _read_parts(checkpoints, number, recipe=ocp.args.JsonRestore())["recipe"]
    try:
        return complete_recipe(recipe)
    except ValueError as error:
        raise RecipeError(_unreadable(checkpoints, number, f"recipe: {error}")) from None


def _read_parts(checkpoints: ocp.CheckpointManager, number: int, **parts: Any) -> Any:
    try:
        return checkpoints.restore(number, args=ocp.args.Composite(**parts))
    except Exception as error:  # orbax raises bare ones
        if _is_of_the_machine(error):
            raise
        raise RecipeError(_unreadable(checkpoints, number, _first_line(error))) from error


def _is_of_the_machine(error: Exception) -> bool:
    """Whether an error is not the checkpoint's: no memory, no permission."""
    return "RESOURCE_EXHAUSTED" in str(error) or isinstance(error, PermissionError)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _unreadable(checkpoints: ocp.CheckpointManager, number: int, reason: str) -> str:
    return (
        f"the checkpoint {Path(checkpoints.directory) / str(number)} cannot be read: {reason}. If it is "
        "damaged, move that folder away to continue from the one before"
    )


def carry_on(workdir: str, state: TrainState) -> TrainState:
    """The state of another run's newest checkpoint, with steps and learning-rate schedule from the start.

    Raises RecipeError when there is no checkpoint, or when its arrays are not this run's.
    """
    path = Path(workdir).absolute() / "checkpoints"
    if not path.is_dir():
        raise RecipeError(f"init_run: no checkpoints in {workdir}; give the working directory of a run")
    with ocp.CheckpointManager(path) as checkpoints:
        if (number := checkpoints.latest_step()) is None:
            raise RecipeError(f"init_run: {path} holds no complete checkpoint")
        try:
            restored = checkpoints.restore(number, args=ocp.args.Composite(state=_standard(state)))["state"]
        except Exception as error:  # orbax raises bare ones
            if _is_of_the_machine(error):
                raise
            raise RecipeError(f"init_run: {path} does not fit this run: {_first_line(error)}") from error
    carried = TrainState(**restored)
    opt_state = with_schedule_from_start(carried.opt_state)
    return carried._replace(step=state.step, skipped=state.skipped, opt_state=opt_state)


def _standard(state: TrainState) -> ocp.args.StandardRestore:
    return ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, state._asdict()))
