"""References that see references only: computing them once a picture or in every step gives the same."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny_model import random_params
from uno_jax.families.model import Model
from uno_jax.families.uno.config import PRESETS, UnoPE
from uno_jax.families.uno.denoising import denoise, first_state, prepare, take_step
from uno_jax.families.uno.types import Conditioning
from uno_jax.families.uno.velocity import velocity
from uno_jax.networks.mmdit import MMDiT
from uno_jax.networks.mmdit_config import MMDiTConfig

TINY = PRESETS["tiny"]
SIZE = (3, 4)
CACHE = UnoPE(reference_cache=True)


def draw_normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def conditioning(config: MMDiTConfig, unope: UnoPE = CACHE, shown: float = 1.0) -> Conditioning:
    """Two samples with two references of other shapes than the target's, the second times `shown`."""
    txt, vec = draw_normal(1, 2, 5, config.context_in_dim), draw_normal(2, 2, config.vec_in_dim)
    refs = draw_normal(3, 2, 4, 4, 16), shown * draw_normal(4, 2, 2, 6, 16)
    return Conditioning(txt, vec, refs, jnp.full(2, 4.0), unope)


@partial(jax.jit, static_argnames="config")
def velocity_of(config: MMDiTConfig, params, given: Conditioning, t: jax.Array) -> jax.Array:
    return velocity(MMDiT(config), {"params": params}, draw_normal(5, 2, 12, 64), SIZE, t, given)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(TINY, {"mmdit": random_params(TINY.mmdit, 1)})


def test_computed_once_or_in_every_step_makes_no_difference(model):
    noise, times = draw_normal(6, 2, 6, 8, 16), np.array([1.0, 0.7, 0.3, 0.0], np.float32)
    given = conditioning(TINY.mmdit)
    once = jax.jit(denoise)(model, noise, given, times)
    steps = jax.jit(prepare)(model, noise, given, times)
    assert steps.conditioning.keys is not None
    step = jax.jit(take_step)
    state = first_state(steps)
    for number in range(3):
        each = jax.tree.map(lambda leaf: leaf[number], steps.each)  # noqa: B023
        state = step(model, steps._replace(conditioning=given), state, each)
    # Float32 of values of about 6, after other fusions.
    np.testing.assert_allclose(once, state.x, rtol=0, atol=1e-5)


def test_references_are_seen_but_see_neither_text_nor_time(model):
    params = model.params["mmdit"]
    given, t = conditioning(TINY.mmdit), jnp.array([0.3, 0.8])
    keys = prepare(
        model, draw_normal(6, 2, 6, 8, 16), given, np.array([1.0, 0.0], np.float32)
    ).conditioning.keys
    seen = velocity_of(TINY.mmdit, params, given, t)
    np.testing.assert_allclose(
        velocity_of(TINY.mmdit, params, given._replace(keys=keys), t), seen, rtol=0, atol=1e-5
    )
    assert abs(velocity_of(TINY.mmdit, params, conditioning(TINY.mmdit, shown=2.0), t) - seen).max() > 0.01
    assert abs(velocity_of(TINY.mmdit, params, given._replace(unope=UnoPE()), t) - seen).max() > 0.01


def test_in_the_first_block_at_time_0_it_is_the_joint_attention():
    """There the references' keys depend on nothing else: a second way to the same numbers."""
    config = dataclasses.replace(TINY.mmdit, depth=1, depth_single_blocks=0)
    params, clean = random_params(config, 2), jnp.zeros(2)
    cached = velocity_of(config, params, conditioning(config), clean)
    joint = velocity_of(config, params, conditioning(config, UnoPE()), clean)
    np.testing.assert_allclose(cached, joint, rtol=0, atol=1e-5 * abs(joint).max())
