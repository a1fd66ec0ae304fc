"""A run's checkpoints: what is saved to continue bit for bit, and the check that it is the same run.

A checkpoint holds the state (trainable, optimizer, running average, step), the data iterator's position and
the recipe with its RECIPE_VERSION. It is written asynchronously and appears under its step's name when it is
complete, with digests of its files. A field that a recipe lacks, since it was written before there was one,
has its default.
"""

import dataclasses
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint.utils import TMP_DIR_SUFFIX

from uno_jax.sharding.processes import is_first_process
from uno_jax.support.digests import write_digests
from uno_jax.support.errors import RecipeError
from uno_jax.support.json_files import read_object
from uno_jax.support.settings import differences, from_dict, to_dict
from uno_jax.training.config import MeshConfig, ProcessesConfig, TrainConfig
from uno_jax.training.state import TrainState
from uno_jax.weights.arrays import orbax_path

UNFINISHED = f"*{TMP_DIR_SUFFIX}*"
LATER = "_CHECKPOINT_METADATA"  # orbax's times, completed last
RECIPE_VERSION = 1  # to be raised when a field of old recipes has another meaning; 0.2 wrote none

# Fields that do not change what is computed; `steps` is one where the learning rate does not depend on it.
# The mesh, `remat` and `unroll` change the order of sums, and with it the last bits.
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
    "remat",
    "unroll",
    "data.threads",
    "data.workers",
    *(f"mesh.{field.name}" for field in dataclasses.fields(MeshConfig)),
    *(f"processes.{field.name}" for field in dataclasses.fields(ProcessesConfig)),
}


def last_step(config: TrainConfig) -> int | None:
    """The step of the newest complete checkpoint in a run's working directory, by the names of its folders;
    None where there is none.
    """
    folders = (Path(config.workdir) / "checkpoints").glob("*")
    return max((int(path.name) for path in folders if path.name.isdecimal()), default=None)


def open_checkpoints(config: TrainConfig) -> ocp.CheckpointManager:
    """The checkpoints of a run's working directory, which is made if needed. What a killed save left is
    removed here: orbax does it in a thread, which fails aloud where the command ends at once.

    Raises RecipeError for a damaged record of times, without which orbax opens none of them.
    """
    folder = orbax_path(Path(config.workdir)) / "checkpoints"
    check_times(folder)
    for left in folder.glob(UNFINISHED) if is_first_process() else ():
        shutil.rmtree(left)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=config.keep_checkpoints,
        keep_period=config.keep_every,
        async_options=ocp.AsyncOptions(post_finalization_callback=partial(digest_written, folder)),
    )
    return ocp.CheckpointManager(folder, options=options)


def check_times(folder: Path) -> None:
    """Raises RecipeError for a record of orbax's times, in one of a folder's checkpoints, that is not one.
    Those of checkpoints that were not finished do not matter: orbax removes them.
    """
    for record in sorted(folder.glob(f"*/{LATER}")):
        if record.parent.name.isdecimal():
            read_object(record, {}, lambda why: RecipeError(f"{why}. It holds times only: delete this file"))


def digest_written(folder: Path) -> None:
    """Writes the digests of the checkpoint that is written but not yet renamed to its step."""
    if is_first_process():
        for written in folder.glob(UNFINISHED):
            write_digests(written, without=[LATER])


def save_checkpoint(
    checkpoints: ocp.CheckpointManager, config: TrainConfig, number: int, state: TrainState, batches: Any
) -> None:
    """Starts writing the checkpoint of step `number`, unless that is saved already."""
    if number in checkpoints.all_steps():
        return
    parts = ocp.args.Composite(
        state=ocp.args.StandardSave(state._asdict()),
        data=ocp.args.JsonSave(batches.get_state()),
        recipe=ocp.args.JsonSave({"version": RECIPE_VERSION, **to_dict(config)}),
    )
    checkpoints.save(number, args=parts)


def complete_recipe(recorded: Any) -> dict[str, Any]:
    """A recorded recipe with the defaults of the fields that it lacks.

    Raises ValueError for one of a later version and for fields that this version does not have or of another
    type.
    """
    if not isinstance(recorded, dict):
        raise ValueError(f"expected an object, got {recorded!r:.60}")
    fields = dict(recorded)
    if (version := fields.pop("version", 0)) not in range(RECIPE_VERSION + 1):
        raise ValueError(f"version {version!r:.60} is later than this program's, {RECIPE_VERSION}; update it")
    if not version and isinstance(fields.get("data"), dict):
        fields["data"] = {"buckets": "mean"} | fields["data"]  # as every run of 0.2 and before had it
    return to_dict(from_dict(TrainConfig, fields))


def way_on(checkpoints: ocp.CheckpointManager, recipe: dict[str, Any], config: TrainConfig) -> str:
    """What to do with a run of another recipe."""
    workdir = Path(checkpoints.directory).parent
    if changed_fields(recipe, to_dict(config) | {"steps": recipe["steps"]}):
        return "Continue with the old settings, or choose another workdir"
    return (
        f"Its learning rate decays to step {recipe['steps']}, so it cannot be lengthened: start a new run "
        f"from it with --init-run {workdir} --workdir OTHER, which begins the schedule anew"
    )


def changed_fields(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """`field: old -> new` for every field of a recipe that changes what is computed."""
    decays = new["optim"]["decay_to"] != 1
    return differences(old, new, HARMLESS - {"steps"} if decays else HARMLESS)
