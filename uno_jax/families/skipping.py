"""Steps of a drawing that are left out, as a schedule that is known before it begins (MagCache, arXiv
2506.09045). What stands in for a step's velocity is the line through the two computed before it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

# FLUX.1-dev in 28 steps: how much longer, on average over tokens, what its blocks add to the image tokens is
# than in the step before. Measured by MagCache's authors (their MagCache4FLUX; diffusers' FLUX_MAG_RATIOS).
FLUX_DEV_RATIOS = (
    1.0, 1.07313, 1.21035, 1.04432, 1.06818, 1.05547, 1.0183, 1.03405, 1.02574, 1.03042, 1.02739, 1.01955,
    1.01585, 1.02439, 1.01154, 1.01377, 1.00994, 1.01444, 1.00839, 1.02269, 1.0007, 1.00714, 1.00484, 1.01381,
    1.00426, 0.99764, 1.00778, 1.00233,
)  # fmt: skip
MOST = 3  # steps in a row
KEPT = 0.2  # of the steps at the beginning, which make the composition; both as diffusers' MagCacheConfig
FIRST = 5  # steps at the beginning in any case: MagCache was made for 25 and more


def computed_steps(ratios: Sequence[float], steps: int, threshold: float) -> Bool[np.ndarray, "steps"]:
    """Which steps are computed: the first, and all where otherwise the summed distance of the ratios' product
    from 1, since the last computed step, would reach the threshold.

    `ratios` are of any number of steps: from one step to the next they are multiplied up.
    """
    grown = np.cumsum(np.log(ratios))
    grown = np.interp(np.linspace(0, len(ratios) - 1, steps), np.arange(len(ratios)), grown)
    own = np.exp(np.diff(grown, prepend=grown[0]))
    computed = np.ones(steps, bool)
    product, error, row = 1.0, 0.0, 0
    for step in range(max(FIRST, int(KEPT * steps)), steps):
        product *= own[step]
        error, row = error + abs(1 - product), row + 1
        computed[step] = error >= threshold or row > MOST
        if computed[step]:
            product, error, row = 1.0, 0.0, 0
    return computed


class Computed(NamedTuple):
    """The two velocities computed last, the latest first, and their times."""

    times: Float[Array, "2"]
    velocities: Float[Array, "2 b l c"]


def none_computed(x: Float[Array, "b l c"]) -> Computed:
    """What the first of at least two computed steps begins with."""
    return Computed(jnp.array([1.0, 2.0]), jnp.zeros((2, *x.shape), x.dtype))


def add(past: Computed, t: Array, v: Float[Array, "b l c"]) -> Computed:
    """The past after a velocity was computed at time t."""
    return Computed(jnp.stack([t, past.times[0]]), jnp.stack([v, past.velocities[0]]))


def extrapolate(past: Computed, t: Array) -> Float[Array, "b l c"]:
    """The velocity at time t on the line through the two computed last."""
    (latest, before), (v, v_before) = past.times, past.velocities
    line: Array = v + (v - v_before) * (t - latest) / (latest - before)
    return line
