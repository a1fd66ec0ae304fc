"""Rectified flow: schedules, interpolation and Euler steps. Time runs from 1 (noise) to 0 (picture)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

TRAIN_POINTS = 1000


def shift_mu(
    length: int | float, base: tuple[float, float] = (256.0, 0.5), top: tuple[float, float] = (4096.0, 1.15)
) -> float:
    """The shift mu for a sequence length: a line through the points (length, mu) `base` and `top` (flux
    `sampling.py`).
    """
    slope = (top[1] - base[1]) / (top[0] - base[0])
    return slope * (length - base[0]) + base[1]


def shifted(t: Float[np.ndarray, "n"], mu: float) -> Float[np.ndarray, "n"]:
    """Shifts times towards noise: exp(mu) / (exp(mu) + 1/t - 1); 0 stays 0.

    Computed in float32 with a reciprocal in place of the division, as torch divides a number by a tensor, so
    that schedules equal the reference's recorded ones bit for bit.
    """
    strength = np.float32(math.exp(mu))
    with np.errstate(divide="ignore"):
        return np.float32(1) / (strength + (np.float32(1) / t - np.float32(1))) * strength


def descending(points: int) -> Float[np.ndarray, "points"]:
    """`points` times from 1 to 0 in float32; each half is computed from its own end, as in torch.linspace."""
    index = np.arange(points)
    step = np.float64(np.float32(-1) / np.float32(points - 1))
    times = np.where(index < points // 2, 1 + step * index, -step * (points - 1 - index))
    return times.astype(np.float32)


def sampling_schedule(steps: int, width: int, height: int, shift: bool = True) -> Float[np.ndarray, "points"]:
    """The steps + 1 times of Euler sampling for width x height pixels, from 1 to 0.

    The sequence length is (w/8)(h/8)/256 as in UNO's `sampling.py`, not training's number of tokens,
    (w/16)(h/16). This mismatch is the reference's own, kept because its released weights are sampled so.
    FLUX.1-schnell uses no shift.

    Raises ValueError for less than one step.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    t = descending(steps + 1)
    return shifted(t, shift_mu((width // 8) * (height // 8) // 256)) if shift else t


def training_schedule(resolution: int) -> Float[np.ndarray, "1000"]:
    """Training's 1000 possible times, from 1 to 0, shifted for (resolution/8)^2/4 tokens."""
    return shifted(descending(TRAIN_POINTS), shift_mu((resolution // 8) ** 2 / 4))


def interpolate(
    x1: Float[Array, "b l c"], x0: Float[Array, "b l c"], t: Float[Array, "b"]
) -> Float[Array, "b l c"]:
    """x_t = (1 - t) x1 + t x0, with x1 the picture and x0 the noise (UNO section 3.1)."""
    t = t[:, None, None]
    return (1 - t) * x1 + t * x0


def sample_times(key: jax.Array, batch: int, resolution: int) -> Float[Array, "b"]:
    """A batch of training times, drawn uniformly from the 1000 points of `training_schedule`."""
    index = jax.random.randint(key, (batch,), 0, TRAIN_POINTS)
    return jnp.asarray(training_schedule(resolution))[index]


def euler_step(
    x: Float[Array, "b l c"],
    velocity: Float[Array, "b l c"],
    t: Float[Array, ""] | float,
    t_next: Float[Array, ""] | float,
) -> Float[Array, "b l c"]:
    """The state at `t_next`, given the state and its velocity at `t`."""
    return x + (t_next - t) * velocity
