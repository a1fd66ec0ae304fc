"""Where subjects stand and how the light falls, drawn from keys with the drawn composer's statistics.

b pictures, k subjects in each (1 to 4).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from uno_jax.toybox import appearance as look
from uno_jax.toybox.device.atlas import Atlas
from uno_jax.toybox.scenes import SCENES

SHADOWS = ("ground", "wall", "none")
SCENE_FEET = np.array([scene.feet for scene in SCENES.values()], np.float32)
SCENE_TINT = np.array([scene.tint for scene in SCENES.values()], np.float32)
SCENE_SHADOW = np.array([SHADOWS.index(scene.shadow) for scene in SCENES.values()])


class Placements(NamedTuple):
    """`compose.Placement`, one of each array's entries a subject."""

    x: Float[Array, "*n"]
    feet: Float[Array, "*n"]
    extent: Float[Array, "*n"]
    degrees: Float[Array, "*n"]
    flip: Bool[Array, "*n"]
    tilt: Float[Array, "*n 2"]


class Light(NamedTuple):
    """`compose.Light`, one of each array's entries a picture."""

    side: Float[Array, "*b"]
    contrast: Float[Array, "*b"]
    brightness: Float[Array, "*b"]
    tint: Float[Array, "*b 3"]


def draw_placements(
    key: PRNGKeyArray,
    atlas: Atlas,
    scenes: Int[Array, " b"],
    subjects: Int[Array, "b k"],
    alone: Bool[Array, " b"],
) -> Placements:
    """Placements inside the frame. Where `alone`, the first subject stands as if there were no other."""
    alone, every = alone[:, None], subjects.shape
    uniform_key, normal_key = jax.random.split(key)
    # All at once: each call of jax.random is a large program to compile.
    size, rise, along, mirror, order, *tilt = jax.random.uniform(uniform_key, (7, *every))
    turned, off = jax.random.normal(normal_key, (2, *every))
    upright = (jnp.asarray(SCENE_SHADOW)[scenes] == SHADOWS.index("ground"))[:, None]
    turned = turned * jnp.where(upright, look.UPRIGHT_SPREAD, look.LOOSE_SPREAD)
    side_by_side = max(2, every[1])  # one subject stands in a slot of two, where it is not alone
    ranks = jnp.argsort(jnp.argsort(order, axis=1), axis=1) if every[1] > 2 else _either_first(order)
    slot = jnp.asarray(look.SLOTS[side_by_side])[ranks]
    feet = jnp.asarray(SCENE_FEET)[scenes]
    loose = Placements(
        x=slot + look.SLOT_SPREAD * off,
        feet=within((feet[:, :1], feet[:, 1:]), rise),
        extent=jnp.where(alone, within(look.EXTENT_ALONE, size), within(look.EXTENTS[side_by_side], size)),
        degrees=jnp.clip(turned, -look.MOST_DEGREES, look.MOST_DEGREES),
        flip=(mirror < 0.5) & ~atlas.sided[subjects],
        tilt=(2 * jnp.stack(tilt, -1) - 1) * jnp.asarray((look.LEFT_LONGER, look.TOP_LONGER)),
    )
    fitted, reach = fit(loose, atlas.shapes[subjects])
    return fitted._replace(x=jnp.where(alone, within(reach, along), fitted.x))


def _either_first(order: Float[Array, "b k"]) -> Int[Array, "b k"]:
    """The slots of one or two subjects: the first in either, the second in the other."""
    first = jnp.where(order[:, :1] < 0.5, 0, 1)
    return jnp.where(jnp.arange(order.shape[1]) == 0, first, 1 - first)


def fit(
    loose: Placements, shapes: Float[Array, "*n 2"]
) -> tuple[Placements, tuple[Float[Array, "*n"], Float[Array, "*n"]]]:
    """Placements with all of the subjects' boxes in the frame, and how far left and right their middles may
    be.
    """
    corners = box_corners(shapes, loose)
    box = corners.max(-2) - corners.min(-2)
    extent = jnp.minimum(loose.extent, (1 - 2 * look.MARGIN) / box.max(-1))
    width, height = jnp.moveaxis(box * extent[..., None], -1, 0)
    reach = (0.5 * width + look.MARGIN, 1 - 0.5 * width - look.MARGIN)
    feet = jnp.maximum(loose.feet, height + look.MARGIN)
    return loose._replace(extent=extent, x=jnp.clip(loose.x, *reach), feet=feet), reach


def between(
    key: PRNGKeyArray,
    ends: tuple[Placements, Placements],
    freedom: Float[Array, "b 1"],
    shapes: Float[Array, "b k 2"],
) -> Placements:
    """From the first of the `ends` (freedom 0) to the second (freedom 1)."""
    alike, free = ends

    def mix(first: Array, second: Array) -> Array:
        return first + freedom.reshape(-1, *[1] * (first.ndim - 1)) * (second - first)

    other = jax.random.uniform(key, alike.x.shape) < freedom
    mixed = Placements(*map(mix, alike._replace(flip=alike.x), free._replace(flip=free.x)))
    return fit(mixed._replace(flip=jnp.where(other, free.flip, alike.flip)), shapes)[0]


def draw_light(key: PRNGKeyArray, scenes: Int[Array, "*b"]) -> Light:
    sign, side, contrast, brightness, *tint = jax.random.uniform(key, (7, *scenes.shape))
    return Light(
        jnp.where(sign < 0.5, -1, 1) * within(look.LIGHT_SIDE, side),
        within(look.LIGHT_CONTRAST, contrast),
        within(look.LIGHT_BRIGHTNESS, brightness),
        jnp.asarray(SCENE_TINT)[scenes] * within(look.LIGHT_TINT, jnp.stack(tint, -1)),
    )


def box_corners(shapes: Float[Array, "*n 2"], its: Placements) -> Float[Array, "*n 4 2"]:
    """The subject's box around its middle, longer side 1, clockwise from the top left."""
    box = jnp.asarray([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
    box = box * (1 - 0.5 * its.tilt[..., None, ::-1] * box[:, ::-1])
    mirrored = jnp.stack([jnp.where(its.flip, -1.0, 1.0), jnp.ones_like(its.x)], -1)
    x, y = jnp.moveaxis(box * (shapes / 2 * mirrored)[..., None, :], -1, 0)
    turn = jnp.deg2rad(its.degrees)[..., None]
    return jnp.stack([x * jnp.cos(turn) - y * jnp.sin(turn), x * jnp.sin(turn) + y * jnp.cos(turn)], -1)


def within(limits: tuple[float | Array, float | Array], share: Array) -> Array:
    """The share of the way from the first limit to the second."""
    return limits[0] + (limits[1] - limits[0]) * share
