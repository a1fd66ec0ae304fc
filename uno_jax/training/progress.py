"""The progress of a run: a bar with loss, speed and time left, and the same numbers in the logs.

In: steps as they were started, and pictures. Out: the bar, and a line for every `log_every`-th step and every
skipped one to each of `writers`. Rates are over wall-clock time, without compilations and the drawing of
samples.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from PIL import Image
from tqdm import tqdm

from uno_jax.costs.devices import chip_of
from uno_jax.costs.flops import count_flops
from uno_jax.sharding.processes import is_first_process
from uno_jax.support.trees import Params
from uno_jax.training.config import TrainConfig
from uno_jax.training.log_writers import Value, Writer, open_writers
from uno_jax.training.losses import make_loss
from uno_jax.training.optimizer import count_updates, learning_rate
from uno_jax.training.state import TrainState
from uno_jax.training.step import Metrics, gradients

BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps [{elapsed}{postfix}]"


class Step(NamedTuple):
    """A step that was started: its number, its metrics once they are computed, and what it was fed."""

    number: int
    metrics: Metrics
    records: tuple[str, ...]
    bad_records: int
    """Number of records left out of the data so far."""
    flops: int | None = None


class Progress:
    """Owns the bar, and the clock of the steps since the last line of the logs. `peak` is the FLOP/s of all
    devices together, None where it is not known.
    """

    def __init__(
        self,
        config: TrainConfig,
        bar: tqdm,
        writers: Sequence[Writer],
        learning_rates: np.ndarray,
        peak: float | None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`learning_rates` are indexed by the number of updates made in this run."""
        self._config, self._bar, self._writers, self._clock = config, bar, writers, clock
        self._learning_rates, self.peak = learning_rates, peak
        # When the last step ended; None where the next one's time must not be counted.
        self._since: float | None = None
        self._steps, self._seconds, self._flops = 0, 0.0, 0
        self._speed: list[str] = []

    def pause(self, doing: str) -> None:
        """Shows what delays the steps, and keeps its time out of their rates."""
        self._since = None
        self._bar.set_postfix_str(doing)

    def log_picture(self, number: int, name: str, image: Image.Image) -> None:
        """Hands a picture to the writers."""
        self._write(number, {name: image})

    def report(self, step: Step) -> dict[str, float]:
        """Waits for a step and shows it; returns its metrics."""
        measured = {name: float(value) for name, value in step.metrics.items()}
        now = self._clock()
        if self._since is not None:
            self._steps, self._seconds = self._steps + 1, self._seconds + now - self._since
            self._flops += step.flops or 0
        self._since = now
        finite = is_finite(measured)
        due = step.number % self._config.log_every == 0 or step.number == self._config.steps
        if due or not finite:
            values: dict[str, Value] = {
                name: value if math.isfinite(value) else None for name, value in measured.items()
            }
            updates = step.number - 1 - int(measured["skipped"])
            values["learning_rate"] = float(self._learning_rates[max(updates, 0)])
            values["bad_records"] = step.bad_records
            rates = self._rates() if due else {}
            self._write(step.number, values | rates | ({} if finite else {"records": list(step.records)}))
            self._speed = self._speed_text(step.number, rates) or self._speed
        self._bar.set_postfix_str(", ".join([f"loss {measured['loss']:.4f}", *self._speed]), refresh=False)
        self._bar.update()
        return measured

    def _rates(self) -> dict[str, float]:
        """Rates over the steps since the last call, as far as they are known."""
        steps, seconds, flops = self._steps, self._seconds, self._flops
        self._steps, self._seconds, self._flops = 0, 0.0, 0
        if not seconds:
            return {}
        rates = {"images_per_second": steps * self._config.batch_size / seconds}
        return rates | ({"mfu": flops / seconds / self.peak} if self.peak else {})

    def _speed_text(self, number: int, rates: dict[str, float]) -> list[str]:
        if not rates:
            return []
        speed = rates["images_per_second"]
        left = (self._config.steps - number) * self._config.batch_size / speed
        mfu = [f"MFU {rates['mfu']:.1%}"] if "mfu" in rates else []
        return [f"{speed:.3g} images/s", *mfu, f"{tqdm.format_interval(left)} left"]

    def _write(self, number: int, values: dict[str, Any]) -> None:
        for write in self._writers:
            write(number, values)


@contextlib.contextmanager
def open_progress(config: TrainConfig, mesh: Mesh, state: TrainState) -> Iterator[Progress]:
    """The progress of a run that continues from `state` on the devices of `mesh`."""
    done, peak = int(state.step), chip_of(mesh.devices.flat[0]).peak
    updates = count_updates(state.opt_state) - (done - int(state.skipped)) + np.arange(config.steps)
    # All at once: reading a number from a device waits for the steps that were started before.
    rates = np.asarray(jax.vmap(learning_rate(config.optim, config.steps))(updates))
    bar = tqdm(
        total=config.steps,
        initial=done,
        bar_format=BAR,
        dynamic_ncols=True,
        disable=not is_first_process(),
    )
    with bar, open_writers(config, done) as writers:
        yield Progress(config, bar, writers, rates, peak and peak * 1e12 * mesh.size)


def is_finite(metrics: dict[str, float]) -> bool:
    """Whether the step changed anything (see `step.train_step`)."""
    return math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"])


def step_flops(
    config: TrainConfig, model: Any, state: TrainState, frozen: dict[str, Params], batch: Any
) -> int:
    """Model FLOPs of a step on a batch of this shape: nothing that remat computes a second time."""
    loss = make_loss(dataclasses.replace(config, remat="none"), model)
    key = jax.eval_shape(lambda: jax.random.key(0))
    args = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (state, frozen, batch))
    return count_flops(partial(gradients, loss, accumulate=config.accumulate), *args, key)
