"""One training step, a pure function of the state: gradients, clipped AdamW, running average."""

from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from uno_jax.families.family import Loss
from uno_jax.networks.registry import cut_trained
from uno_jax.support.compiler_options import PRODUCTS_APART
from uno_jax.support.trees import Params, join
from uno_jax.training.config import TrainConfig
from uno_jax.training.losses import make_loss
from uno_jax.training.state import TrainState

Metrics = dict[str, Float[Array, ""] | Int[Array, ""]]
Gradients = tuple[Float[Array, ""], Params]
"""The loss and its gradient."""


class StepMethod(NamedTuple):
    """How a run's steps are computed; the same for all of them."""

    loss: Loss
    optimizer: optax.GradientTransformation
    ema_decay: float
    accumulate: int


def make_step(
    config: TrainConfig, model: Any, optimizer: optax.GradientTransformation, state: TrainState
) -> Any:
    """The recipe's jitted step (state, frozen, batch, key) -> (state, metrics). The state that it is given is
    donated; the one that it returns has the shardings of `state`, which is of arrays or shapes.
    """
    places = jax.tree.map(lambda leaf: leaf.sharding, state)
    (platform,) = {device.platform for device in places.step.device_set}
    method = StepMethod(make_loss(config, model), optimizer, config.optim.ema_decay, config.accumulate)
    return jax.jit(
        partial(train_step, method),
        donate_argnums=0,
        out_shardings=(places, None),
        compiler_options=PRODUCTS_APART.get(platform),
    )


def train_step(
    method: StepMethod, state: TrainState, frozen: dict[str, Params], batch: Any, key: jax.Array
) -> tuple[TrainState, Metrics]:
    """The state after one step, and its loss and gradient norm (before clipping).

    Gradients of frozen weights are never computed. A step whose loss or gradient is not finite changes
    nothing but the counts of steps and of skipped ones.
    """
    step_key = jax.random.fold_in(key, state.step)
    value, grads = gradients(method.loss, state, frozen, batch, step_key, method.accumulate)
    norm = optax.tree.norm(grads)
    finite = jnp.isfinite(value) & jnp.isfinite(norm)
    updates, opt_state = method.optimizer.update(grads, state.opt_state, state.trainable)
    trainable = optax.apply_updates(state.trainable, updates)
    ema = averaged(state.ema, trainable, method.ema_decay, state.step) if state.ema else state.ema
    before, after = (state.trainable, state.opt_state, state.ema), (trainable, opt_state, ema)
    trainable, opt_state, ema = jax.tree.map(lambda old, new: jnp.where(finite, new, old), before, after)
    skipped = state.skipped + jnp.where(finite, 0, 1)
    metrics = {"loss": value, "grad_norm": norm, "skipped": skipped}
    return TrainState(state.step + 1, trainable, opt_state, ema, skipped), metrics


def gradients(
    loss: Loss, state: TrainState, frozen: dict[str, Params], batch: Any, key: jax.Array, accumulate: int
) -> Gradients:
    """Mean loss and its gradient over `accumulate` equal parts of the batch, one after another."""

    def of_part(part: Any, part_key: jax.Array) -> Gradients:
        return jax.value_and_grad(
            lambda trainable: loss(join(frozen, cut_trained(trainable)), part, part_key)
        )(state.trainable)

    if accumulate == 1:
        return of_part(batch, key)
    # Interleaved, so that a part keeps every device's share of the batch where it is.
    parts = jax.tree.map(lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), batch)

    def add(total: Gradients, part: tuple[Any, jax.Array]) -> tuple[Gradients, None]:
        return jax.tree.map(jnp.add, total, of_part(*part)), None

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.trainable))
    total, _ = jax.lax.scan(add, zero, (parts, jax.random.split(key, accumulate)))
    return cast(Gradients, jax.tree.map(lambda x: x / accumulate, total))


def averaged(ema: Params, new: Params, decay: float, step: Array) -> Params:
    """decay * ema + (1 - decay) * new. The decay warms up, or the average would keep the initial weights for
    thousands of steps.

    Not optax.incremental_update, which takes 1 - decay: for a decay below 1/2 that rounds differently.
    """
    warm = jnp.minimum(decay, (1 + step) / (10 + step))
    return cast(Params, jax.tree.map(lambda old, x: warm * old + (1 - warm) * x, ema, new))
