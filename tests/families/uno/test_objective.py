"""Completing diptychs: the given half is seen without noise and does not count in the loss."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny_model import random_params
from uno_jax.data.config import DataConfig
from uno_jax.families.uno.config import PRESETS
from uno_jax.families.uno.objective import Noised, flow_loss, given_half
from uno_jax.families.uno.types import Batch, Conditioning
from uno_jax.networks.registry import network
from uno_jax.training.config import TrainConfig
from uno_jax.training.losses import make_loss

MODEL = PRESETS["tiny"]
MMDIT = MODEL.mmdit


def draw_normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


@pytest.fixture(scope="module")
def params():
    return random_params(MMDIT, 1)


def test_a_half_is_given_in_its_share_of_the_samples():
    given = np.asarray(given_half(jax.random.key(0), 4000, (2, 4), 0.6)).reshape(-1, 2, 2, 2)
    halves = given[:, 0, :, 0]
    np.testing.assert_array_equal(given, np.broadcast_to(halves[:, None, :, None], given.shape))
    assert not halves.all(1).any() and abs(halves.mean(0) - 0.3).max() < 0.03


def test_noise_on_the_given_half_changes_nothing(params):
    """The gradient of the loss with respect to the noise is exactly zero there, and nowhere else."""
    txt, vec = draw_normal(1, 1, 3, MMDIT.context_in_dim), draw_normal(2, 1, MMDIT.vec_in_dim)
    given = jnp.array([[True, True, False, False] * 2])

    @jax.jit
    @jax.grad
    def by_noise(noise):
        conditioning = Conditioning(txt, vec, guidance=jnp.ones(1))
        sample = Noised(draw_normal(3, 1, 4, 8, 16), noise, jnp.array([0.7]), given)
        return flow_loss(network(MMDIT), {"params": params}, sample, conditioning)

    gradient = np.asarray(by_noise(draw_normal(4, 1, 4, 8, 16)))
    assert not gradient[:, :, :4].any() and gradient[:, :, 4:].all()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "differs"), [(8, True), (4, False)])
def test_only_diptychs_are_completed(params, width, differs):
    recipe = TrainConfig(dtype="float32", remat="none", data=DataConfig(path="list.json", resolution=64))
    txt, vec = draw_normal(1, 2, 3, MMDIT.context_in_dim), draw_normal(2, 2, MMDIT.vec_in_dim)
    batch = Batch(draw_normal(3, 2, 4, width, 32), (), txt, vec)
    values = {
        share: jax.jit(make_loss(dataclasses.replace(recipe, completion=share), MODEL))(
            {"mmdit": params}, batch, jax.random.key(5)
        )
        for share in (0.0, 1.0)
    }
    assert (values[0.0] != values[1.0]) == differs
