"""A run's checkpoints: what is saved to continue bit for bit, and the check that it is the same run.

A checkpoint holds the state (trainable, optimizer, running average, step), the data iterator's position and
the recipe. It is written asynchronously and appears under its step's name when it is complete.
"""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from uno_jax.support.errors import RecipeError
from uno_jax.support.settings import differences, to_dict
from uno_jax.training.config import TrainConfig
from uno_jax.training.optimizer import with_schedule_from_start
from uno_jax.training.state import TrainState

# Fields that do not change what is computed; `steps` is one where the learning rate does not depend on it.
HARMLESS = {
    "workdir",
    "steps",
    "log_every",
    "checkpoint_every",
    "keep_checkpoints",
    "keep_every",
    "max_skipped",
    "profile_steps",
    "samples",
    "wandb_project",
    "data.threads",
    "processes.coordinator",
    "processes.count",
    "processes.index",
}


def last_step(config: TrainConfig) -> int | None:
    """The step of the newest complete checkpoint in a run's working directory, by the names of its folders;
    None where there is none.
    """
    folders = (Path(config.workdir) / "checkpoints").glob("*")
    return max((int(path.name) for path in folders if path.name.isdecimal()), default=None)


def open_checkpoints(config: TrainConfig) -> ocp.CheckpointManager:
    """The checkpoints of a run's working directory, which is made if needed."""
    options = ocp.CheckpointManagerOptions(
        max_to_keep=config.keep_checkpoints, keep_period=config.keep_every, cleanup_tmp_directories=True
    )
    return ocp.CheckpointManager(Path(config.workdir).absolute() / "checkpoints", options=options)


def save_checkpoint(
    checkpoints: ocp.CheckpointManager, config: TrainConfig, number: int, state: TrainState, batches: Any
) -> None:
    """Starts writing the checkpoint of step `number`, unless that is saved already."""
    if number in checkpoints.all_steps():
        return
    parts = ocp.args.Composite(
        state=ocp.args.StandardSave(state._asdict()),
        data=ocp.args.JsonSave(batches.get_state()),
        recipe=ocp.args.JsonSave(to_dict(config)),
    )
    checkpoints.save(number, args=parts)


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
    recipe = _read_parts(checkpoints, number, recipe=ocp.args.JsonRestore())["recipe"]
    if changes := changed_fields(recipe, to_dict(config)):
        raise RecipeError(
            f"{checkpoints.directory} has checkpoints of another recipe: {'; '.join(changes)}. "
            f"{way_on(checkpoints, recipe, config)}"
        )
    restored = _read_parts(checkpoints, number, state=_standard(state), data=ocp.args.JsonRestore())
    batches.set_state(restored["data"])
    return TrainState(**restored["state"])


def way_on(checkpoints: ocp.CheckpointManager, recipe: dict[str, Any], config: TrainConfig) -> str:
    """What to do with a run of another recipe."""
    workdir = Path(checkpoints.directory).parent
    if changed_fields(recipe, to_dict(config) | {"steps": recipe["steps"]}):
        return "Continue with the old settings, or choose another workdir"
    return (
        f"Its learning rate decays to step {recipe['steps']}, so it cannot be lengthened: start a new run "
        f"from it with --init-run {workdir} --workdir OTHER, which begins the schedule anew"
    )


def _read_parts(checkpoints: ocp.CheckpointManager, number: int, **parts: Any) -> Any:
    try:
        return checkpoints.restore(number, args=ocp.args.Composite(**parts))
    except Exception as error:  # orbax raises bare ones
        if "RESOURCE_EXHAUSTED" in str(error) or isinstance(error, PermissionError):
            raise
        path = Path(checkpoints.directory) / str(number)
        raise RecipeError(
            f"the checkpoint {path} cannot be read: {str(error).splitlines()[0]}. If it is damaged, move "
            "that folder away to continue from the one before"
        ) from error


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
        except (ValueError, KeyError) as error:
            raise RecipeError(
                f"init_run: {path} does not fit this run: {str(error).splitlines()[0]}"
            ) from error
    carried = TrainState(**restored)
    opt_state = with_schedule_from_start(carried.opt_state)
    return carried._replace(step=state.step, skipped=state.skipped, opt_state=opt_state)


def _standard(state: TrainState) -> ocp.args.StandardRestore:
    return ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, state._asdict()))


def changed_fields(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """`field: old -> new` for every field of a recipe that changes what is computed."""
    decays = new["optim"]["decay_to"] != 1
    return differences(old, new, HARMLESS - {"steps"} if decays else HARMLESS)
