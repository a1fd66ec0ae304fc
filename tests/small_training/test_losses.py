"""The losses of the small model's training agree with the family's own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uno_jax.families.uno.config import PRESETS, UnoPE
from uno_jax.families.uno.objective import Noised, flow_loss
from uno_jax.families.uno.types import Conditioning
from uno_jax.networks.mmdit import MMDiT
from uno_jax.networks.registry import init_params
from uno_jax.small_training.losses import Seen, panels_loss, permute_channels
from uno_jax.small_training.perceptual import STAGES, perceptual_distance

CONFIG = PRESETS["tiny"].mmdit
ROWS, BATCH = 4, 3  # tokens of a side


@pytest.fixture(scope="module")
def net() -> MMDiT:
    return MMDiT(CONFIG)


@pytest.fixture(scope="module")
def variables():
    @jax.jit
    def noisy(key):
        leaves, tree = jax.tree.flatten(init_params(CONFIG, key))
        keys = jax.random.split(jax.random.fold_in(key, 1), len(leaves))  # zeros would hide mistakes
        moved = [a + 0.05 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
        return jax.tree.unflatten(tree, moved)

    return {"params": noisy(jax.random.key(0))}


@pytest.fixture(scope="module")
def drawn():
    keys = jax.random.split(jax.random.key(2), 6)
    side = (BATCH, 2 * ROWS, 2 * ROWS, CONFIG.in_channels // 4)
    latents = [jax.random.normal(key, side) for key in keys[:4]]
    txt = jax.random.normal(keys[4], (BATCH, 5, CONFIG.context_in_dim))
    vec = jax.random.normal(keys[5], (BATCH, CONFIG.vec_in_dim))
    return latents, txt, vec, jnp.array([0.2, 0.5, 0.9])


@pytest.fixture(scope="module")
def of_panels(net, variables, drawn):
    (first, noise, second, other), txt, vec, t = drawn
    equal = jnp.full((BATCH, 2 * ROWS**2), 2.0)

    @jax.jit
    def loss(shift, given, weight=equal):
        seen = Seen(txt, vec, t, shift, given, weight)
        return panels_loss(net, variables, ((first, noise), (second, other)), seen)

    return loss


def test_a_given_panel_at_unopes_place_is_a_reference(net, variables, drawn, of_panels):
    """The rope's angles are computed in float32 here and in float64 there."""
    (first, noise, second, _), txt, vec, t = drawn
    shift = jnp.full((BATCH, 2), ROWS, jnp.float32)
    loss = of_panels(shift, jnp.ones(BATCH, bool))
    conditioning = Conditioning(txt, vec, (second,), jnp.ones(BATCH), UnoPE())
    wanted = jax.jit(lambda: flow_loss(net, variables, Noised(first, noise, t), conditioning))()
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)


def test_only_tokens_with_a_weight_count(of_panels):
    shift, given = jnp.full((BATCH, 2), ROWS, jnp.float32), jnp.ones(BATCH, bool)
    halves = [jnp.zeros(2 * ROWS**2).at[part].set(1.0) for part in (slice(0, 4), slice(4, ROWS**2))]
    parts = [float(of_panels(shift, given, jnp.tile(half, (BATCH, 1)))) for half in halves]
    share = 4 / ROWS**2
    np.testing.assert_allclose(of_panels(shift, given), share * parts[0] + (1 - share) * parts[1], rtol=1e-5)
    given_only = jnp.zeros(2 * ROWS**2).at[: ROWS**2].set(1.0).at[ROWS**2 :].set(5.0)
    np.testing.assert_allclose(
        of_panels(shift, given, jnp.tile(given_only, (BATCH, 1))), of_panels(shift, given), rtol=1e-6
    )


def test_two_panels_that_are_not_given_are_one_wide_picture(net, variables, drawn, of_panels):
    (first, noise, second, other), txt, vec, t = drawn
    shift = jnp.tile(jnp.array([0.0, ROWS]), (BATCH, 1))
    loss = of_panels(shift, jnp.zeros(BATCH, bool))
    wide, wide_noise = jnp.concatenate([first, second], 2), jnp.concatenate([noise, other], 2)
    conditioning = Conditioning(txt, vec, (), jnp.ones(BATCH))
    wanted = jax.jit(lambda: flow_loss(net, variables, Noised(wide, wide_noise, t), conditioning))()
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)


def test_where_the_panel_lies_matters(of_panels):
    near, far = (of_panels(jnp.full((BATCH, 2), at), jnp.ones(BATCH, bool)) for at in (4.0, 9.0))
    assert abs(near - far) > 1e-6


def test_only_the_order_of_the_channels_changes():
    image = jax.random.uniform(jax.random.key(0), (40, 4, 4, 3))
    changed = permute_channels(jax.random.key(1), image)
    np.testing.assert_allclose(np.sort(changed, axis=-1), np.sort(image, axis=-1), rtol=1e-6)
    same = np.all(np.isclose(changed, image), axis=(1, 2, 3))
    assert 0.4 < same.mean() < 0.95


def test_the_perceptual_distance_is_zero_for_equal_pictures_and_grows():
    rng, widths = np.random.default_rng(0), (3, 8, 8, 16, 16, 32, 32, 32)
    weights = {
        f"stage{number}.weight": jnp.ones(widths[stage[-1] + 1]) for number, stage in enumerate(STAGES)
    }
    for layer in range(7):
        kernel = rng.normal(size=(3, 3, widths[layer], widths[layer + 1])) / np.sqrt(9 * widths[layer])
        weights |= {
            f"conv{layer}.kernel": jnp.asarray(kernel),
            f"conv{layer}.bias": jnp.zeros(widths[layer + 1]),
        }
    image = jnp.asarray(rng.uniform(-1, 1, (2, 16, 16, 3)))
    near, far = (image + size * rng.normal(size=image.shape) for size in (0.02, 0.3))
    distance = jax.jit(partial(perceptual_distance, dtype=jnp.float32))
    assert distance(weights, image, image) == 0
    assert 0 < distance(weights, image, near) < distance(weights, image, far)
