"""The atlas: all subjects of one split as texels in one array, each at a ladder of sizes.

A subject's cell at a level is a square with a transparent border of one texel, its picture at the top left.
Texels are premultiplied RGBA of 8 bits each, packed into one number so that a bilinear sample is four reads.
"""

from collections.abc import Sequence
from itertools import accumulate

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32
from PIL import Image

from uno_jax.toybox.appearance import EXTENT_ALONE, EXTENT_OF_TWO, EXTENTS, SIDED
from uno_jax.toybox.subjects import Subject, SubjectError

STEP = 1.25  # from a level's side to the next: a subject is shown at no more texels a pixel than this
DIRECTIONS = 64  # in which a subject's farthest points are kept
FAINT = 8  # alpha of 255 that does not count as part of a subject


@flax.struct.dataclass
class Atlas:
    __no_type_check__ = True  # as a pytree it also holds what jit.lower says of its arguments

    texels: UInt32[Array, " t"]
    shapes: Float[Array, "n 2"]  # width and height, the longer one 1
    extents: Int[Array, "n level 2"]  # width and height in texels
    outlines: Float[Array, "n k 2"]  # farthest points in each direction, as fractions of the box
    sided: Bool[Array, " n"]  # never mirrored
    sides: tuple[int, ...] = flax.struct.field(pytree_node=False)  # of the levels, without borders
    names: tuple[str, ...] = flax.struct.field(pytree_node=False)
    split: str = flax.struct.field(pytree_node=False)

    @property
    def starts(self) -> tuple[int, ...]:
        """Where each level begins among the texels."""
        sizes = (len(self.names) * (side + 2) ** 2 for side in self.sides[:-1])
        return tuple(accumulate(sizes, initial=0))


def make_atlas(subjects: Sequence[Subject], size: int) -> Atlas:
    """The atlas for pictures of `size` pixels a side.

    Raises SubjectError for subjects of several splits: what is held out never enters an atlas for training.
    """
    if len(splits := {subject.split for subject in subjects}) != 1:
        raise SubjectError(f"an atlas holds subjects of one split, got {sorted(splits)}")
    pictures = [subject.levels[0] for subject in subjects]
    sides = level_sides(size, max(max(picture.size) for picture in pictures))
    cells, extents = zip(*(_draw_level(pictures, side) for side in sides), strict=True)
    shapes = np.array([picture.size for picture in pictures], np.float32)
    return Atlas(
        texels=jnp.asarray(np.concatenate([level.reshape(-1) for level in cells])),
        shapes=jnp.asarray(shapes / shapes.max(1, keepdims=True)),
        extents=jnp.asarray(np.stack(extents, 1)),
        outlines=jnp.asarray(np.stack([_outline(picture) for picture in pictures])),
        sided=jnp.asarray([bool(SIDED.search(subject.name)) for subject in subjects]),
        sides=sides,
        names=tuple(subject.name for subject in subjects),
        split=splits.pop(),
    )


def level_sides(size: int, largest: int) -> tuple[int, ...]:
    """From the smallest subject in a picture to the largest, but no larger than its source."""
    sides = [max(2, round(EXTENT_OF_TWO[0] * size))]
    while sides[0] > max(2, min(EXTENTS.values())[0] * size):
        sides.insert(0, max(2, round(sides[0] / STEP)))
    while sides[-1] < EXTENT_ALONE[1] * size:
        sides.append(round(sides[-1] * STEP + 0.5))
    return tuple(sorted({min(side, largest) for side in sides}))


def choose_level(atlas: Atlas, pixels: Float[Array, "*n"]) -> Int[Array, "*n"]:
    """The smallest level with a texel for each pixel of the subject's longer side."""
    level = sum((pixels > side).astype(jnp.int32) for side in atlas.sides[:-1])
    return jnp.broadcast_to(jnp.asarray(level, jnp.int32), jnp.shape(pixels))


def sample(
    atlas: Atlas, subject: Int[Array, ""], level: Int[Array, ""], at: Float[Array, "2 h w"]
) -> Float[Array, "4 h w"]:
    """Premultiplied RGBA in 0..1 at places given as fractions of the subject's box; bilinear, and nothing
    outside.
    """
    cell = jnp.asarray(atlas.sides)[level] + 2
    extent = atlas.extents[subject, level]
    place = at * extent[:, None, None] - 0.5
    low = jnp.clip(jnp.floor(place), -1, extent[:, None, None] - 1)
    (fx, fy), (x, y) = jnp.clip(place - low, 0, 1), low.astype(jnp.int32) + 1
    first = jnp.asarray(atlas.starts)[level] + subject * cell**2 + y * cell + x
    weights = ((1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy)
    total: Array = jnp.zeros(())
    for step, weight in zip((0, 1, cell, cell + 1), weights, strict=True):
        packed = atlas.texels.at[first + step].get(mode="promise_in_bounds")
        total = total + weight * unpack(packed)
    return total / 255


def unpack(texels: UInt32[Array, "h w"]) -> Float[Array, "4 h w"]:
    shifts = jnp.arange(0, 32, 8, dtype=jnp.uint32)[:, None, None]
    return ((texels >> shifts) & 255).astype(jnp.float32)


def _draw_level(
    pictures: Sequence[Image.Image], side: int
) -> tuple[UInt32[np.ndarray, "n cell cell"], Int[np.ndarray, "n 2"]]:
    cells = np.zeros((len(pictures), side + 2, side + 2, 4), np.uint8)
    extents = np.empty((len(pictures), 2), np.int32)
    for cell, extent, picture in zip(cells, extents, pictures, strict=True):
        width, height = (max(1, round(length * side / max(picture.size))) for length in picture.size)
        small = np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))
        # Lanczos overshoots: no colour is brighter than its alpha.
        cell[1 : height + 1, 1 : width + 1] = np.minimum(small, small[..., 3:])
        extent[:] = width, height
    return cells.view("<u4")[..., 0], extents


def _outline(picture: Image.Image) -> Float[np.ndarray, "k 2"]:
    """Points of the convex hull: of a map that keeps lines straight they give the bounding box."""
    alpha = np.asarray(picture.getchannel(3))
    seen = alpha > min(FAINT, int(alpha.max()) - 1)
    rows = np.flatnonzero(seen.any(1))
    left, right = seen[rows].argmax(1), seen.shape[1] - seen[rows, ::-1].argmax(1)
    corners = [np.stack([column, rows + down], 1) for column in (left, right) for down in (0, 1)]
    points = np.concatenate(corners) / picture.size
    angles = np.linspace(0, 2 * np.pi, DIRECTIONS, endpoint=False)
    farthest = (points @ np.stack([np.cos(angles), np.sin(angles)])).argmax(0)
    found: np.ndarray = points[farthest].astype(np.float32)
    return found
