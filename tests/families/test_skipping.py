"""Which steps a drawing leaves out, and what it takes in their place."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny_model import random_params
from uno_jax.families.model import Model
from uno_jax.families.skipping import FLUX_DEV_RATIOS, add, computed_steps, extrapolate, none_computed
from uno_jax.families.uno.config import PRESETS
from uno_jax.families.uno.denoising import Schedule, denoise
from uno_jax.families.uno.settings import Settings
from uno_jax.families.uno.types import Conditioning

TINY = PRESETS["tiny"]


def left_out(ratios, steps, threshold):
    return np.flatnonzero(~computed_steps(ratios, steps, threshold)).tolist()


def test_steps_are_left_out_until_the_error_reaches_the_threshold():
    # Each step grows by a tenth: errors of 0.1, 0.1 + 0.21, 0.1 + 0.21 + 0.331.
    assert left_out([1.1] * 10, 10, 0.05) == []
    assert left_out([1.1] * 10, 10, 0.2) == [5, 7, 9]
    assert left_out([1.1] * 10, 10, 0.4) == [5, 6, 8, 9]
    # No more than three in a row, and none of the first five and of the first fifth.
    assert left_out([1.0] * 20, 20, 0.1) == [5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18, 19]
    assert left_out([1.0] * 20, 40, 0.1)[0] == 8
    assert left_out([1.0] * 20, 5, 0.1) == []


def test_flux_dev_leaves_out_what_magcache_does_with_these_ratios():
    """Followed by hand: 0.056 of step 5 is below 0.06, with the 0.075 of step 6 it is not, and so on."""
    assert left_out(FLUX_DEV_RATIOS, 28, 0.06) == [5, 7, 9, 11, 12, 14, 15, 17, 18, 20, 21, 22, 24, 25, 26]


def test_ratios_of_other_steps_are_multiplied_up():
    # 1.21 from step to step of 8 are 1.1 of 15, and 1.4641 of 4 and a half.
    assert left_out([1.21] * 8, 15, 0.2) == left_out([1.1] * 15, 15, 0.2) == [5, 7, 9, 11, 13]
    assert left_out([1.0331] * 28, 10, 0.1) == []


def test_guidance_that_begins_or_ends_is_computed_twice():
    settings = Settings(
        20, 4.0, true_cfg=2.0, cfg_interval=(0.3, 0.7), skip_threshold=0.1, step_ratios=(1.0, 1.0)
    )
    times = np.linspace(1, 0.05, 20)
    changes = np.flatnonzero(np.diff(settings.acts_at(times)))
    computed = settings.computed_at(times)
    assert len(changes) == 2 and all(computed[change + 1] and computed[change + 2] for change in changes)
    # The last steps of a start image begin with two that are computed.
    assert settings.computed_at(times[7:])[:2].all()
    assert Settings(20, 4.0).computed_at(times) is None


def test_the_velocity_lies_on_the_line_through_the_last_two():
    x = jnp.zeros((1, 2, 3))
    past = add(add(none_computed(x), jnp.float32(0.9), x + 1.0), jnp.float32(0.8), x + 3.0)
    np.testing.assert_allclose(extrapolate(past, jnp.float32(0.75)), x + 4.0, rtol=1e-6)


@pytest.fixture(scope="module")
def drawn():
    """Tokens of the tiny model for a mask of its computed steps."""
    model = Model(TINY, {"mmdit": random_params(TINY.mmdit, 1)})
    draw = np.random.default_rng(0).standard_normal
    txt, vec = draw((1, 3, TINY.t5.d_model)), draw((1, TINY.clip.hidden_size))
    given = Conditioning(*(jnp.asarray(each, jnp.float32) for each in (txt, vec)), guidance=jnp.ones(1))
    noise = jnp.asarray(draw((1, 4, 4, 16)), jnp.float32)
    run = jax.jit(partial(denoise, model, noise, given))
    return lambda times, computed=None: np.asarray(run(Schedule(np.float32(times), computed)))


def test_without_steps_left_out_the_picture_is_the_same(drawn):
    times = [1.0, 0.75, 0.5, 0.25, 0.0]
    # Float32 of values of about 3, in other fusions.
    np.testing.assert_allclose(drawn(times, np.ones(4, bool)), drawn(times), rtol=0, atol=2e-6)


def test_a_step_left_out_takes_the_line_of_the_two_before(drawn):
    times = [1.0, 0.75, 0.5, 0.25]
    states = [drawn(times[:2]), drawn(times[:3])]
    first = (states[0] - drawn([1.0, 1.0])) / -0.25
    second = (states[1] - states[0]) / -0.25
    expected = states[1] - 0.25 * (2 * second - first)
    found = drawn(times, np.array([True, True, False]))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert abs(found - drawn(times)).max() > 1e-3
