"""Pictures on the device: a background of the bank, and each subject by one perspective map from the atlas,
with its shadow and its light, as `compose` draws them.

Everything is drawn for one picture, planes first (3, size, size), and mapped over the batch. A shadow is seen
at half the size, then softened and enlarged by one matrix along each axis.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from uno_jax.toybox import appearance as look
from uno_jax.toybox.device.atlas import Atlas, choose_level, make_atlas, sample
from uno_jax.toybox.device.bank import SIDE, Bank, resized
from uno_jax.toybox.device.looks import Looks, dress
from uno_jax.toybox.device.place import SCENE_SHADOW, SHADOWS, Light, Placements, box_corners, within
from uno_jax.toybox.subjects import Subject

FRAME = 128  # pixels of a picture that a background of the bank's usual side is cut for
# Where the cut begins, of what is left over: low, so that the ground stays under the subjects' feet.
CUT_FROM_TOP = (0.6, 1.0)
EXPOSURE = (0.95, 1.05)


@flax.struct.dataclass
class World:
    """All that pictures are made of; `size` is that of a picture."""

    __no_type_check__ = True  # as a pytree it also holds what jit.lower says of its arguments

    backgrounds: UInt8[Array, "scenes n 3 side side"]
    atlas: Atlas
    size: int = flax.struct.field(pytree_node=False)


class Backdrop(NamedTuple):
    """Which part of which background, and how."""

    scene: Int[Array, "*b"]
    drawing: Int[Array, "*b"]
    cut: Float[Array, "*b 2"]  # from the left and from the top, of what is left over
    mirrored: Bool[Array, "*b"]
    exposure: Float[Array, "*b"]


class Shot(NamedTuple):
    """All that one picture, or each of a batch, is drawn from; k subjects, which look as their own pictures
    where there are no `looks`.
    """

    backdrop: Backdrop
    subjects: Int[Array, "*b k"]
    shown: Bool[Array, "*b k"]
    placements: Placements
    light: Light
    looks: Looks | None = None


class Drawn(NamedTuple):
    """Pictures, and how much of each pixel subjects cover."""

    image: UInt8[Array, "*b size size 3"]
    covered: Float[Array, "*b size size"]


class Cutout(NamedTuple):
    """A subject as it appears in the frame: premultiplied, its box in pixels, and the map from pixels to
    fractions of the subject's own picture.
    """

    rgba: Float[Array, "4 size size"]
    to_subject: Float[Array, "3 3"]
    least: Float[Array, "2"]
    greatest: Float[Array, "2"]


def make_world(bank: Bank, subjects: list[Subject], size: int) -> World:
    """The world for pictures of `size` pixels a side, on the default device."""
    planes = np.moveaxis(resized(bank, round(size * SIDE / FRAME)), -1, 2)
    return World(jnp.asarray(planes), make_atlas(subjects, size), size)


def draw_backdrops(key: PRNGKeyArray, world: World, scenes: Int[Array, "*b"]) -> Backdrop:
    drawing, left, top, mirrored, exposure = jax.random.uniform(key, (5, *scenes.shape))
    return Backdrop(
        scenes,
        (drawing * world.backgrounds.shape[1]).astype(jnp.int32),
        jnp.stack([left, within(CUT_FROM_TOP, top)], -1),
        mirrored < 0.5,
        within(EXPOSURE, exposure),
    )


def render(world: World, shots: Shot) -> Drawn:
    """The pictures of a batch of shots."""
    return jax.vmap(lambda shot: _render_one(world, shot))(shots)


def _render_one(world: World, shot: Shot) -> Drawn:
    def lay(before: tuple[Array, Array], slot: Any) -> tuple[tuple[Array, Array], None]:
        (picture, covered), (subject, shown, its, looks) = before, slot
        cutout = cut_out(world, subject, its, looks)
        light_left = 1 - shade(world, shot, subject, cutout)
        behind = 1 - cutout.rgba[3]
        drawn = picture * light_left * behind + lit(cutout, shot.light, world.size)
        after = drawn, 1 - (1 - covered) * behind
        return jax.tree.map(partial(jnp.where, shown), after, before), None

    # Who stands further back is drawn first.
    order = jnp.argsort(shot.placements.feet)
    slots = shot.subjects, shot.shown, shot.placements, shot.looks
    bare = cut_background(world, shot.backdrop), jnp.zeros((world.size, world.size))
    (picture, covered), _ = jax.lax.scan(lay, bare, jax.tree.map(lambda values: values[order], slots))
    return Drawn((jnp.clip(picture, 0, 1) * 255 + 0.5).astype(jnp.uint8).transpose(1, 2, 0), covered)


def cut_background(world: World, backdrop: Backdrop) -> Float[Array, "3 size size"]:
    left_over = world.backgrounds.shape[-1] - world.size
    left, top = jnp.round(backdrop.cut * left_over).astype(jnp.int32)
    window = jax.lax.dynamic_slice(
        world.backgrounds,
        (backdrop.scene, backdrop.drawing, 0, top, left),
        (1, 1, 3, world.size, world.size),
    )[0, 0]
    window = jnp.where(backdrop.mirrored, window[..., ::-1], window)
    return window.astype(jnp.float32) * (backdrop.exposure / 255)


def cut_out(world: World, subject: Int[Array, ""], its: Placements, looks: Looks | None = None) -> Cutout:
    """The subject scaled, turned, mirrored and seen in perspective, its middle and its feet where they
    belong.
    """
    corners = box_corners(world.atlas.shapes[subject], its) * its.extent * world.size
    centred = homography(corners)
    outline = through(centred, world.atlas.outlines[subject].T)
    least, greatest = outline.min(1), outline.max(1)
    middle_and_feet = jnp.stack([(least[0] + greatest[0]) / 2, greatest[1]])
    move = jnp.stack([its.x, its.feet]) * world.size - middle_and_feet
    to_subject = inverse(centred.at[:2].add(move[:, None] * centred[2]))
    level = choose_level(world.atlas, its.extent * world.size)
    at = through(to_subject, pixel_centres(world.size))
    rgba = sample(world.atlas, subject, level, at)
    if looks is not None:
        rgba = dress(rgba, sample(world.atlas, looks.texture, level, at), looks.colour)
    return Cutout(rgba, to_subject, least + move, greatest + move)


def lit(cutout: Cutout, light: Light, size: int) -> Float[Array, "3 size size"]:
    """Brighter on the side of the light and at the top."""
    height, width = (cutout.greatest - cutout.least)[::-1]
    across, down = pixel_centres(size) - ((cutout.least + cutout.greatest) / 2)[:, None, None]
    slope = across / width * light.side - look.DOWN * down / height
    colour = (light.tint * light.brightness)[:, None, None] * (1 + light.contrast * slope)
    return jnp.minimum(cutout.rgba[:3] * colour, cutout.rgba[3])


def shade(world: World, shot: Shot, subject: Int[Array, ""], cutout: Cutout) -> Float[Array, "size size"]:
    """How much darker the ground gets, or the surface behind the subject: 0 to 1."""
    kind = jnp.asarray(SCENE_SHADOW)[shot.backdrop.scene]
    on_wall = kind == SHADOWS.index("wall")
    thrown = through(cutout.to_subject, cast_from(cutout, on_wall, shot.light.side, world.size))
    cast = soften(sample(world.atlas, subject, jnp.zeros_like(kind), thrown)[3], on_wall, world.size)
    touched = contact(cutout, world.size)
    ground = look.GROUND_DARKENS * jnp.maximum(look.CAST_OPACITY * cast, look.CONTACT_OPACITY * touched)
    dark = jnp.where(on_wall, look.WALL_DARKENS * look.WALL_OPACITY * cast, ground)
    return jnp.where(kind == SHADOWS.index("none"), 0.0, dark)


def cast_from(
    cutout: Cutout, on_wall: Bool[Array, ""], side: Float[Array, ""], size: int
) -> Float[Array, "2 half half"]:
    """The pixels of the subject whose shadow falls on each pixel of a frame of half the size."""
    x, y = 2 * pixel_centres(-(-size // 2))
    foot = cutout.greatest[1]
    behind = (y - foot) / look.GROUND_SQUASH
    from_x = jnp.where(on_wall, x + look.WALL_SHIFT * side * size, x - look.GROUND_SHEAR * side * behind)
    from_y = jnp.where(on_wall, y - look.WALL_DROP * size, foot + behind)
    return jnp.stack([from_x, from_y])


def soften(cast: Float[Array, "half half"], on_wall: Bool[Array, ""], size: int) -> Float[Array, "size size"]:
    """A shadow at half the size enlarged and blurred, the more so on a wall."""
    ground, wall = (_soft_matrix(size, blur) for blur in (look.GROUND_BLUR, look.WALL_BLUR))
    rows = jnp.where(on_wall, wall @ cast, ground @ cast)
    return jnp.where(on_wall, rows @ wall.T, rows @ ground.T)


def _soft_matrix(size: int, blur: float) -> Float[np.ndarray, "size half"]:
    """Interpolation to twice the size, then a box of `blur` of the frame on each side, as Pillow's."""
    half, radius = -(-size // 2), blur * size
    near = np.arange(size)[:, None] + 0.5 - (2 * np.arange(half) + 1)
    enlarge = np.clip(1 - np.abs(near) / 2, 0, 1)
    box = np.clip(radius + 1 - np.abs(np.arange(size)[:, None] - np.arange(size)), 0, 1)
    both = (box / box.sum(1, keepdims=True)) @ (enlarge / enlarge.sum(1, keepdims=True))
    weights: np.ndarray = both.astype(np.float32)
    return weights


def contact(cutout: Cutout, size: int) -> Float[Array, "size size"]:
    """A soft dark ellipse where the subject meets the ground, as wide as its lowest part."""
    x, y = pixel_centres(size)
    foot, height = cutout.greatest[1], cutout.greatest[1] - cutout.least[1]
    low = jnp.maximum(2, jnp.floor(height / look.LOWEST_PART))
    lowest = jnp.max(jnp.where(y > foot - low, cutout.rgba[3], 0), 0)
    touching = lowest >= look.TOUCHING * lowest.max()
    first = jnp.min(jnp.where(touching, x[0], size))
    last = jnp.max(jnp.where(touching, x[0], 0))
    across = (x - (first + last) / 2) / (look.CONTACT_WIDTH * (last - first + 2))
    flat = look.CONTACT_HEIGHT * size
    down = (y - foot + look.CONTACT_SINKS * flat) / flat
    return jnp.exp(-((across**2 + down**2) ** 2))


def homography(corners: Float[Array, "4 2"]) -> Float[Array, "3 3"]:
    """The map that shows the unit square's corners (clockwise from the top left) at these (Heckbert 1989)."""
    first, second, third, fourth = corners
    along, down = second - third, fourth - third
    rest = first - second + third - fourth
    area = _cross(along, down)
    g, h = _cross(rest, down) / area, _cross(along, rest) / area
    upper = jnp.stack([second - first + g * second, fourth - first + h * fourth, first], 1)
    return jnp.concatenate([upper, jnp.stack([g, h, jnp.ones_like(g)])[None]])


def inverse(matrix: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """The inverse up to a factor, which a map of homogeneous coordinates does not need."""
    first, second, third = matrix
    return jnp.stack([jnp.cross(second, third), jnp.cross(third, first), jnp.cross(first, second)], 1)


def through(matrix: Float[Array, "3 3"], at: Float[Array | np.ndarray, "2 *n"]) -> Float[Array, "2 *n"]:
    """The points mapped."""
    x, y = at
    across, down, depth = (row[0] * x + row[1] * y + row[2] for row in matrix)
    return jnp.stack([across / depth, down / depth])


def pixel_centres(size: int) -> Float[np.ndarray, "2 size size"]:
    """x and y, in pixels."""
    at = np.arange(size, dtype=np.float32) + 0.5
    return np.stack(np.meshgrid(at, at))


def _cross(one: Float[Array, "2"], other: Float[Array, "2"]) -> Float[Array, ""]:
    return one[0] * other[1] - one[1] * other[0]
