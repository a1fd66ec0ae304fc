"""Schedules equal the recorded ones bit for bit; interpolation and Euler steps are each other's inverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uno_jax.families import flow


def test_schedules_equal_the_reference():
    golden = np.load("tests/golden/uno_a/golden.npz")
    for key in (key for key in golden if key.startswith("schedule.infer.")):
        size, steps = key.split(".")[2:]
        width, height = map(int, size.split("x"))
        np.testing.assert_array_equal(flow.sampling_schedule(int(steps), width, height), golden[key])
    np.testing.assert_array_equal(flow.training_schedule(512), golden["schedule.train.512"])


def test_schnell_is_not_shifted():
    np.testing.assert_allclose(flow.sampling_schedule(4, 512, 512, shift=False), [1, 0.75, 0.5, 0.25, 0])


def test_one_euler_step_of_the_true_velocity_ends_at_the_picture():
    x1, x0 = jnp.ones((1, 2, 3)), jnp.zeros((1, 2, 3)) - 2
    x_t = flow.interpolate(x1, x0, jnp.array([0.7]))
    np.testing.assert_allclose(flow.euler_step(x_t, x0 - x1, 0.7, 0.0), x1, atol=1e-6)


def test_times_cover_the_schedule():
    times, schedule = flow.sample_times(jax.random.key(0), 20_000, 512), flow.training_schedule(512)
    np.testing.assert_array_equal(np.unique(times), np.sort(schedule))


def test_steps_must_be_positive():
    with pytest.raises(ValueError, match="steps must be at least 1"):
        flow.sampling_schedule(0, 512, 512)
