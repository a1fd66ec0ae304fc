"""The steps of a run, from its state's to the last: feed, step, save, draw, show.

In: the jitted step, the state, the data. Out: the last state; on disk checkpoints, logs, samples and, where
asked for, a profile.
"""

import contextlib
import math
from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh
from PIL import Image
from tqdm import tqdm

from uno_jax.data.batches import Batches
from uno_jax.sharding.processes import is_first_process, place_batch
from uno_jax.support.trees import Params
from uno_jax.support.words import counted
from uno_jax.training.checkpoints import save_checkpoint
from uno_jax.training.config import TrainConfig
from uno_jax.training.previews import Samples, draw_samples, read_sheet, sheet_path, write_sheet
from uno_jax.training.progress import Progress, Step, is_finite, open_progress, step_flops
from uno_jax.training.state import TrainState
from uno_jax.training.step import Metrics

SETTLING = 2  # steps in which a run compiles and fills its queues, not worth a profile


class TrainingError(ValueError):
    """The run cannot continue; its last good checkpoint is complete."""


class Run(NamedTuple):
    """What stays the same over the steps of a run."""

    config: TrainConfig
    model: Any
    mesh: Mesh
    batches: Batches
    checkpoints: ocp.CheckpointManager
    samples: Samples | None
    stopping: Callable[[int], bool]
    """Whether to stop after a step."""


def take_steps(
    run: Run, step: Callable[..., tuple[TrainState, Metrics]], state: TrainState, frozen: dict[str, Params]
) -> TrainState:
    """Takes the remaining steps. The host runs one step ahead of the metrics that it has read, but for the
    steps whose state is saved.
    """
    config, batches = run.config, run.batches
    key = jax.random.key(config.seed + 1)
    number = first = int(state.step)
    profiled = range(first + SETTLING, first + SETTLING + config.profile_steps)
    pending: Step | None = None
    stopped = False
    flops: dict[Hashable, int | None] = {}  # of a step, for each shape of batch that occurred
    paint = run.samples and partial(draw_samples, run.samples, config, frozen, run.mesh)
    with open_progress(config, run.mesh, state) as progress, contextlib.ExitStack() as profile:
        # A run that was killed while it drew has the step's checkpoint but not its picture.
        show_samples(config, paint, number, state, progress)
        while number < config.steps and not stopped:
            batch = place_batch(run.mesh, next(batches))
            if (shape := shape_of(batch)) not in flops:
                progress.pause("compiling…")
                flops[shape] = step_flops(config, run.model, state, frozen, batch) if progress.peak else None
            if profiled and number == profiled.start:
                start_profile(config, profile)
            state, metrics = step(state, frozen, batch, key)
            number += 1
            if profiled and number == profiled.stop:
                jax.block_until_ready(metrics)
                profile.close()
                progress.pause("profiled")
            if pending is not None:
                check_skipped(config, pending, progress.report(pending))
            pending = Step(number, metrics, batches.names, len(batches.bad), flops[shape])
            if number % config.checkpoint_every == 0:
                # Before the checkpoint: a run that continues from there does not take the step again.
                check_skipped(config, pending, progress.report(pending))
                pending = None
                save_checkpoint(run.checkpoints, config, number, state, batches)
            if not (stopped := run.stopping(number)):
                show_samples(config, paint, number, state, progress)
        if pending is not None:
            check_skipped(config, pending, progress.report(pending))
        save_checkpoint(run.checkpoints, config, number, state, batches)
        run.checkpoints.wait_until_finished()
    if stopped and number < config.steps:
        saved = Path(config.workdir) / "checkpoints" / str(number)
        tqdm.write(f"stopped after step {number}, saved in {saved}; the same command continues")
    return state


def shape_of(batch: Any) -> Hashable:
    """The shapes and dtypes that a compiled step depends on."""
    return tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(batch))


def check_skipped(config: TrainConfig, step: Step, measured: dict[str, float]) -> None:
    """Prints the records of a step that was skipped.

    Raises TrainingError after more than `max_skipped` such steps.
    """
    if is_finite(measured):
        return
    records = ", ".join(step.records)
    what = "gradient" if math.isfinite(measured["loss"]) else "loss"
    tqdm.write(f"step {step.number}: non-finite {what}, skipped; records {records}")
    if measured["skipped"] > config.max_skipped:
        raise TrainingError(
            f"step {step.number}: {counted(int(measured['skipped']), 'step')} had a non-finite loss or "
            f"gradient, the last one {measured['loss']} and {measured['grad_norm']}; max_skipped allows "
            f"{config.max_skipped}; its records are {records}"
        )


def show_samples(
    config: TrainConfig,
    paint: Callable[[TrainState], Image.Image] | None,
    number: int,
    state: TrainState,
    progress: Progress,
) -> None:
    """Shows the samples of step `number` where they are due. Those that a killed run has drawn are shown
    again, since its log may lack them.
    """
    path = sheet_path(config, number)
    due = number and (number == config.steps or config.samples.every and number % config.samples.every == 0)
    if paint is None or not due:
        return
    if (picture := read_sheet(path)) is None:
        progress.pause("drawing samples…")
        try:
            picture = paint(state)
        except FloatingPointError as error:
            tqdm.write(f"step {number}: no samples: {error}")
            return
        if is_first_process():
            write_sheet(path, picture)
    progress.log_picture(number, "samples", picture)


def start_profile(config: TrainConfig, profile: contextlib.ExitStack) -> None:
    """Records what host and devices do until `profile` is closed, which prints how to view it."""
    folder = Path(config.workdir) / "profile"
    hint = f"profile in {folder}: view it with xprof --logdir {folder} (pip install xprof), or open the "
    profile.callback(tqdm.write, f"{hint}trace.json.gz at https://ui.perfetto.dev")
    profile.enter_context(jax.profiler.trace(str(folder)))
