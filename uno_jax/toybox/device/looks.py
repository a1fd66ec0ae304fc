"""Invented subjects: the outline of one, the texture of another, other colours.

A few hundred subjects can be learned by heart, and then a model draws the one that it recognises in a
reference in place of what the reference shows. Invented ones are new in every sample.
"""

from itertools import permutations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

ORDERS = np.eye(3, dtype=np.float32)[list(permutations(range(3)))]  # (6, 3, 3): channels in every order
TEXTURED = 0.6  # share of the invented subjects with another's texture
MOST_MIXED = 0.5  # of a second order of the channels in the colours
NEGATIVE = 0.25  # share of those whose colours are inverted
GAIN = (0.75, 1.15)  # of each channel


class Looks(NamedTuple):
    """Whose texture a subject has, and the affine map of its colours: of red, green, blue and 1."""

    texture: Int[Array, "*n"]
    colour: Float[Array, "*n 3 4"]


def draw_looks(
    key: PRNGKeyArray, subjects: Int[Array, "*n"], count: int, invented: Float[Array, "*#n"] | float
) -> Looks:
    """Looks of these of `count` subjects, of which this share is invented; the rest look as they are."""
    pick, mix, amount = jax.random.split(key, 3)
    shape = subjects.shape
    orders = jnp.asarray(ORDERS)[jax.random.randint(mix, (2, *shape), 0, len(ORDERS))]
    new, textured, mixed, negative, *gain = jax.random.uniform(amount, (7, *shape))
    share = MOST_MIXED * mixed[..., None, None]
    gains = GAIN[0] + (GAIN[1] - GAIN[0]) * jnp.stack(gain, -1)
    linear = gains[..., None] * ((1 - share) * orders[0] + share * orders[1])
    is_negative = jnp.broadcast_to((negative < NEGATIVE)[..., None, None], (*shape, 3, 1))
    colour = jnp.concatenate([jnp.where(is_negative, -linear, linear), is_negative.astype(linear.dtype)], -1)
    is_new = new < invented
    other = jax.random.randint(pick, shape, 0, count)
    return Looks(
        jnp.where(is_new & (textured < TEXTURED), other, subjects),
        jnp.where(is_new[..., None, None], colour, jnp.eye(3, 4)),
    )


def dress(
    own: Float[Array, "4 h w"], other: Float[Array, "4 h w"], colour: Float[Array, "3 4"]
) -> Float[Array, "4 h w"]:
    """The outline of `own` filled with the other's colours where it has some, then recoloured. All are
    premultiplied.
    """
    alpha = own[3:]
    filled = alpha * other[:3] + (1 - other[3:]) * own[:3]
    recoloured = jnp.einsum("cd,dhw->chw", colour, jnp.concatenate([filled, alpha]))
    return jnp.concatenate([jnp.clip(recoloured, 0, alpha), alpha])
