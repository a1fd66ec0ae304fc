"""One part: steps until its minutes are over, then the averaged weights. It can be stopped at any moment.

A part's schedule follows the time that it has trained, not a number of steps, since how many steps a minute
has is not known before.
"""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from tqdm import tqdm

from uno_jax.small_training.losses import Loss
from uno_jax.small_training.parts import Job, Schedule
from uno_jax.small_training.watch import Watch
from uno_jax.small_training.worlds import Inputs
from uno_jax.support.atomic import atomic_write
from uno_jax.support.errors import CheckpointError
from uno_jax.support.json_files import check_fields, parse_json
from uno_jax.support.trees import Params, join
from uno_jax.training.log_writers import keep_lines
from uno_jax.training.state import TrainState, split_params
from uno_jax.training.step import Metrics, StepMethod, train_step
from uno_jax.training.stopping import stop_signal

LOG_SECONDS, SAVE_SECONDS = 2.0, 300.0
LONGEST_STEP = 60.0  # seconds
MOST_SKIPPED = 20


class Done(NamedTuple):
    """How far a part is."""

    seconds: float
    steps: int


class Around(NamedTuple):
    """What goes on beside a run: its log, and the watch where there is one."""

    log: TextIO
    watch: Watch | None
    every: float
    """Seconds from one measurement to the next."""


def optimizer(schedule: Schedule, rate: float | Array) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(rate, b1=0.9, b2=schedule.b2, weight_decay=schedule.weight_decay),
    )


def rate_at(schedule: Schedule, step: Array, progress: Array) -> Float[Array, ""]:
    warm = jnp.minimum(1.0, (step + 1) / schedule.warmup_steps)
    cool = jnp.clip((1 - progress) / schedule.cooling, 0, 1)
    return schedule.learning_rate * warm * cool


def make_step(job: Job, loss: Loss) -> Any:
    """The jitted step (state, frozen, inputs, key, progress) -> (state, metrics)."""
    schedule = job.part.schedule

    def step(
        state: TrainState, frozen: dict[str, Params], inputs: Inputs, key: Array, progress: Array
    ) -> tuple[TrainState, Metrics]:
        def of_batch(params: dict[str, Params], batch: Inputs, step_key: Array) -> Array:
            with jax.default_matmul_precision(job.recipe.precision or None):
                return loss(params, batch, step_key, progress)

        rate = rate_at(schedule, state.step, progress)
        method = StepMethod(of_batch, optimizer(schedule, rate), schedule.ema_decay, 1)
        return train_step(method, state, frozen, inputs, key)

    return jax.jit(step, donate_argnums=0)


def split(job: Job, params: dict[str, Params]) -> tuple[TrainState, dict[str, Params]]:
    """The state at the start, and the frozen networks in the part's dtype."""
    frozen, trainable = split_params(params, job.part.trainable)
    frozen = jax.tree.map(lambda leaf: leaf.astype(job.recipe.dtype), frozen)
    zero = jnp.zeros((), jnp.int32)
    opt_state = optimizer(job.part.schedule, 0.0).init(trainable)
    return TrainState(zero, trainable, opt_state, jax.tree.map(jnp.copy, trainable), zero), frozen


def random_key(job: Job) -> Array:
    """XLA's own generator: with threefry, compiling the random numbers takes longer."""
    return jax.random.key(job.recipe.seed, impl="unsafe_rbg")


def compile_step(job: Job, turn: int, params: dict[str, Params], inputs: Inputs) -> Any:
    """The step of one of the part's losses compiled for these networks (arrays or shapes)."""
    start = time.monotonic()
    state, frozen = jax.eval_shape(partial(split, job), params)
    key, progress = jax.eval_shape(lambda: (random_key(job), jnp.zeros(())))
    compiled = make_step(job, job.part.losses[turn]).lower(state, frozen, inputs, key, progress).compile()
    tqdm.write(f"{job.part.name}, {turn}: compiled in {time.monotonic() - start:.0f} s")
    return compiled


class Every:
    """Says that something is due, at most once in `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.last = seconds, time.monotonic()

    def is_due(self) -> bool:
        now = time.monotonic()
        due = now - self.last > self.seconds
        self.last = now if due else self.last
        return due


def train_part(
    job: Job,
    steps: Mapping[int, Future[Any]],
    params: dict[str, Params],
    inputs: Inputs,
    around: Around,
) -> dict[str, Params] | None:
    """Trains until the part's minutes are over. Returns its averaged weights; None if a signal stopped it,
    after which its state is saved.

    Raises FloatingPointError if the loss stays NaN or infinite.
    """
    state, frozen = jax.jit(partial(split, job))(params)
    state, done = restore_state(job, state)
    watch = around.watch if "mmdit" in params else None
    log, draw, save = Every(LOG_SECONDS), Every(around.every), Every(SAVE_SECONDS)
    key, last, pending, logged = random_key(job), None, None, done.steps
    with open_bar(job, done) as bar, stop_signal() as stopping:
        while (over := done.seconds / (60 * job.minutes)) < 1:
            if stopping(done.steps):
                save_state(job, state, done)
                return None
            step = choose_step(job.part.turns, steps, done.steps)
            state, metrics = step(state, frozen, inputs, key, jnp.asarray(over, jnp.float32))
            jax.block_until_ready(metrics if pending is None else pending)  # at most one step is queued
            now = time.monotonic()
            done = Done(done.seconds + trained_since(last, now), done.steps + 1)
            last, pending = now, metrics
            if log.is_due():
                write_line(job, done, metrics, around.log)
                logged = done.steps
                show(bar, done, metrics)
            if watch and draw.is_due():
                watch.submit(position(job, done), join(frozen, state.ema))
            if save.is_due():
                save_state(job, state, done)
    if pending is not None and done.steps != logged:
        write_line(job, done, pending, around.log)
    if watch:
        watch.submit(position(job, done), join(frozen, state.ema), last=True)
    trained: dict[str, Params] = state.ema
    return trained


def choose_step(turns: Sequence[int], steps: Mapping[int, Future[Any]], number: int) -> Any:
    """The compiled step of that number's turn, or of the first turn while that is not compiled."""
    step = steps[turns[number % len(turns)]]
    return (step if step.done() else steps[turns[0]]).result()


def trained_since(last: float | None, now: float) -> float:
    """Seconds of training since the step that ended at `last`: a process that was suspended has not trained
    in the meantime.
    """
    return 0.0 if last is None else min(now - last, LONGEST_STEP)


def open_bar(job: Job, done: Done) -> Any:
    total, start = round(60 * job.minutes), round(done.seconds)
    return tqdm(total=total, desc=job.part.name, unit="s", dynamic_ncols=True, initial=start)


def show(bar: Any, done: Done, metrics: Metrics) -> None:
    bar.n = min(round(done.seconds), bar.total)
    bar.set_postfix(loss=f"{float(metrics['loss']):.4f}", steps=done.steps)


def position(job: Job, done: Done) -> dict[str, Any]:
    """Where a run is, for the log."""
    return {"part": job.part.name, "seconds": round(done.seconds, 1), "steps": done.steps}


def drop_repeated_lines(job: Job, log: Path) -> None:
    """Drops what a killed run logged of the part after its state was saved, since it is trained again."""
    steps = stored_position(job).steps

    def is_kept(line: Any) -> bool:
        found = check_fields(line, {"part": str, "steps": int}, "line")
        return bool(found["part"] != job.part.name or found["steps"] <= steps)

    keep_lines(log, is_kept)


def write_line(job: Job, done: Done, metrics: Metrics, log: TextIO) -> None:
    """Writes a line of the log.

    Raises FloatingPointError after too many steps that were not finite.
    """
    values = {name: float(value) for name, value in metrics.items()}
    if values["skipped"] > MOST_SKIPPED:
        raise FloatingPointError(
            f"{job.part.name}: {values['skipped']:.0f} of {done.steps} steps had a NaN or infinite loss or "
            "gradient"
        )
    log.write(json.dumps(position(job, done) | values) + "\n")
    log.flush()


def state_path(job: Job) -> Path:
    return state_file(job.folder, job.part.name)


def state_file(folder: Path, part: str) -> Path:
    return folder / f"{part}.npz"


def save_state(job: Job, state: TrainState, done: Done) -> None:
    """Writes everything that the next start needs to go on."""
    leaves = {str(index): np.asarray(leaf) for index, leaf in enumerate(jax.tree.leaves(state))}
    record = json.dumps(done._asdict())
    with atomic_write(state_path(job)) as path, path.open("wb") as file:
        np.savez(file, record=record, **leaves)  # type: ignore[arg-type]


def stored_position(job: Job) -> Done:
    """How far the part's stored state is; raises as `restore_state`."""
    if not state_path(job).is_file():
        return Done(0.0, 0)
    with _opened(job) as file:
        return _position(file)


def restore_state(job: Job, state: TrainState) -> tuple[TrainState, Done]:
    """The part's stored state, or this one where there is none.

    Raises CheckpointError for a damaged file, and for one of another model.
    """
    if not (path := state_path(job)).is_file():
        return state, Done(0.0, 0)
    wanted, structure = jax.tree.flatten(state)
    with _opened(job) as file:
        done = _position(file)
        leaves = [jnp.asarray(file[str(index)]) for index in range(len(wanted))]
    if [leaf.shape for leaf in leaves] != [leaf.shape for leaf in wanted]:
        raise CheckpointError(f"{path} is a state of another model: choose another --out")
    return jax.tree.unflatten(structure, leaves), done


@contextlib.contextmanager
def _opened(job: Job) -> Iterator[Any]:
    path = state_path(job)
    try:
        with np.load(path) as file:
            yield file
    except (ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise CheckpointError(
            f"{path} is not a state of this part: {error}; remove it to start anew"
        ) from None


def _position(file: Any) -> Done:
    record = parse_json(str(file["record"]), "its record")
    return Done(**check_fields(record, {"seconds": float, "steps": int}, "its record"))
