"""One step on a toy loss: clipping, skipping what is not finite, accumulation, the running average."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uno_jax.families.uno.types import Batch
from uno_jax.training.config import OptimConfig
from uno_jax.training.optimizer import learning_rate, make_optimizer
from uno_jax.training.state import TrainState
from uno_jax.training.step import StepMethod, train_step

OPTIMIZER = make_optimizer(OptimConfig(learning_rate=0.1), steps=10)
KEY = jax.random.key(0)


def loss(params, batch, key):
    """Quadratic in the weight; `frozen` shows that joining works."""
    return jnp.mean(jnp.square(params["lora"]["w"] * params["mmdit"]["x"] - batch.target))


def make_batch(values) -> Batch:
    target = np.asarray(values, np.float32).reshape(-1, 1, 1, 1)
    tokens = np.zeros((len(target), 2), np.int32)
    return Batch(target, (), tokens, tokens)


def make_state(ema: bool = False) -> TrainState:
    trainable = {"lora": {"w": jnp.asarray(2.0)}}
    zero = jnp.zeros((), jnp.int32)
    return TrainState(
        zero, trainable, OPTIMIZER.init(trainable), {"lora": {"w": jnp.asarray(2.0)}} if ema else {}, zero
    )


def step(state, batch, ema_decay=0.0, accumulate=1):
    method = StepMethod(loss, OPTIMIZER, ema_decay, accumulate)
    return train_step(method, state, {"mmdit": {"x": jnp.asarray(3.0)}}, batch, KEY)


def test_adamw_after_clipping():
    state, metrics = step(make_state(), make_batch([1.0, 3.0]))
    assert metrics["grad_norm"] == pytest.approx(24.0)  # 2 * 3 * mean(6 - target)
    # The first AdamW step is learning rate times sign, plus the decay of 0.01 * 2.
    assert state.trainable["lora"]["w"] == pytest.approx(2 - 0.1 * (1 + 0.02), rel=1e-5)
    assert state.step == 1 and state.skipped == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_that_is_not_finite_changes_only_the_counts(bad):
    before = make_state(ema=True)
    after, metrics = step(before, make_batch([1.0, bad]), ema_decay=0.9)
    assert not np.isfinite(metrics["loss"])
    assert (after.step, after.skipped) == (1, 1)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), before[1:4], after[1:4])
    assert all(jax.tree.leaves(same))
    recovered, _ = step(after, make_batch([1.0, 3.0]), ema_decay=0.9)
    assert recovered.skipped == 1 and np.isfinite(recovered.trainable["lora"]["w"])


def test_accumulation_gives_the_whole_batchs_gradient():
    batch = make_batch([1.0, 3.0, -2.0, 5.0])
    whole, parts = jax.jit(partial(step, accumulate=1)), jax.jit(partial(step, accumulate=2))
    one, one_metrics = whole(make_state(), batch)
    two, two_metrics = parts(make_state(), batch)
    assert two.trainable["lora"]["w"] == pytest.approx(float(one.trainable["lora"]["w"]), rel=1e-6)
    assert two_metrics["loss"] == pytest.approx(float(one_metrics["loss"]), rel=1e-6)


def test_the_average_warms_up():
    state, _ = step(make_state(ema=True), make_batch([1.0]), ema_decay=0.999)
    expected = 0.1 * 2.0 + 0.9 * float(state.trainable["lora"]["w"])  # decay (1 + 0) / (10 + 0)
    assert state.ema["lora"]["w"] == pytest.approx(expected)


def test_the_learning_rate_warms_up_and_decays():
    rate = learning_rate(OptimConfig(learning_rate=1.0, warmup_steps=4, decay_to=0.1), steps=12)
    assert [float(rate(n)) for n in (0, 2, 4, 12)] == pytest.approx([0, 0.5, 1, 0.1])
    constant = learning_rate(OptimConfig(learning_rate=1.0), steps=12)
    assert float(constant(0)) == float(constant(12)) == 1
