"""One training step, a pure function of the state: gradients, clipped AdamW, running average."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from uno_jax.families.uno.types import Batch, TrainState
from uno_jax.networks.config import ModelConfig
from uno_jax.networks.registry import Params
from uno_jax.training.config import TrainConfig
from uno_jax.training.losses import Loss, make_loss
from uno_jax.training.state import join

Metrics = dict[str, Float[Array, ""]]


def make_step(
    config: TrainConfig, model: ModelConfig, optimizer: optax.GradientTransformation, state: TrainState
) -> Any:
    """The recipe's jitted step (state, frozen, batch, key) -> (state, metrics). It uses up the state and
    returns it where `state`, of arrays or shapes, lies.
    """
    places = jax.tree.map(lambda leaf: leaf.sharding, state)
    step = partial(train_step, make_loss(config, model), optimizer, config.optim.ema_decay, config.accumulate)
    return jax.jit(step, donate_argnums=0, out_shardings=(places, None))


def train_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
    accumulate: int,
    state: TrainState,
    frozen: dict[str, Params],
    batch: Batch,
    key: jax.Array,
) -> tuple[TrainState, Metrics]:
    """The state after one step, and its loss and gradient norm (before clipping).

    No gradient of a frozen weight is ever formed. A step whose loss or gradient is not finite changes nothing
    but the counts of steps and of skipped ones.
    """
    value, grads = gradients(loss, state, frozen, batch, jax.random.fold_in(key, state.step), accumulate)
    norm = optax.tree.norm(grads)
    finite = jnp.isfinite(value) & jnp.isfinite(norm)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.trainable)
    trainable = optax.apply_updates(state.trainable, updates)
    ema = averaged(state.ema, trainable, ema_decay, state.step) if state.ema else state.ema
    before, after = (state.trainable, state.opt_state, state.ema), (trainable, opt_state, ema)
    trainable, opt_state, ema = jax.tree.map(lambda old, new: jnp.where(finite, new, old), before, after)
    skipped = state.skipped + jnp.where(finite, 0, 1)
    metrics = {"loss": value, "grad_norm": norm, "skipped": skipped}
    return TrainState(state.step + 1, trainable, opt_state, ema, skipped), metrics


def gradients(
    loss: Loss, state: TrainState, frozen: dict[str, Params], batch: Batch, key: jax.Array, accumulate: int
) -> tuple[Float[Array, ""], Params]:
    """Mean loss and its gradient over `accumulate` equal parts of the batch, one after another."""

    def of_part(part: Batch, part_key: jax.Array) -> tuple[Float[Array, ""], Params]:
        return jax.value_and_grad(lambda trainable: loss(join(frozen, trainable), part, part_key))(
            state.trainable
        )

    if accumulate == 1:
        return of_part(batch, key)
    # Interleaved, so that a part keeps every device's share of the batch where it is.
    parts = jax.tree.map(lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), batch)

    def add(total: tuple, part: tuple[Batch, jax.Array]) -> tuple[tuple, None]:
        return jax.tree.map(jnp.add, total, of_part(*part)), None

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.trainable))
    total, _ = jax.lax.scan(add, zero, (parts, jax.random.split(key, accumulate)))
    return jax.tree.map(lambda x: x / accumulate, total)


def averaged(ema: Params, new: Params, decay: float, step: Array) -> Params:
    """decay * ema + (1 - decay) * new; the decay warms up, or thousands of steps would show the start."""
    warm = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda old, x: warm * old + (1 - warm) * x, ema, new)
