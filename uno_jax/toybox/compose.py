"""Composites of subjects in a scene: their placement, lighting and shadows.

Subjects, a scene's name and a Generator, the only source of randomness, give a picture and placements.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from uno_jax.toybox import appearance as look
from uno_jax.toybox.raster import Mask, Picture, Real, blend, columns, homography, rgb, rows, to_bytes
from uno_jax.toybox.scenes import SCENES, Scene
from uno_jax.toybox.subjects import Subject

SMALLEST, LARGEST = 32, 1024  # sides in pixels of the pictures that can be made
SUPERSAMPLING = 2


@dataclass(frozen=True)
class Placement:
    """Where and how one subject stands. Lengths are fractions of the frame."""

    x: float  # horizontal centre
    feet: float  # height of the lowest point
    extent: float  # longer side
    degrees: float
    flip: bool
    tilt: tuple[float, float]  # perspective: relative lengthening of the left and the top side


@dataclass(frozen=True)
class Light:
    """`side` goes from -1 (light from the left) to 1 (right); `contrast` is the darkening of the far side."""

    side: float
    contrast: float
    brightness: float
    tint: NDArray[np.floating]


@dataclass(frozen=True)
class Composite:
    image: NDArray[np.uint8]  # (size, size, 3)
    scene: str
    placements: tuple[Placement, ...]  # one for each subject
    boxes: tuple[tuple[int, int, int, int], ...]  # (left, top, right, bottom) in pixels for each subject

    @property
    def mask(self) -> NDArray[np.uint8]:
        """White in the subjects' boxes: (size, size)."""
        mask = np.zeros(self.image.shape[:2], np.uint8)
        for left, top, right, bottom in self.boxes:
            mask[max(top, 0) : bottom, max(left, 0) : right] = 255
        return mask


@dataclass(frozen=True)
class Cutout:
    """A subject as it appears: premultiplied RGBA (h, w, 4), and the position of its top left pixel."""

    rgba: NDArray[np.floating]
    left: int
    top: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        height, width = self.rgba.shape[:2]
        return self.left, self.top, self.left + width, self.top + height


def compose(
    rng: Generator,
    subjects: Sequence[Subject],
    scene: str,
    size: int,
    placements: Sequence[Placement] | None = None,
) -> Composite:
    """Draws a scene with one subject, or with two to four side by side that hardly overlap. Without
    `placements` they are random ones that suit the scene.

    Raises ValueError for another number of subjects, KeyError for an unknown scene.
    """
    kind = SCENES[scene]
    # A separate generator, as scenes use a number of values that depends on `size`; all else is independent.
    picture = kind.draw(np.random.default_rng(rng.integers(2**63)), size)
    placements = tuple(placements or place(rng, subjects, kind))
    light = _light(rng, kind)
    cutouts = [_cut_out(subject, its, size) for subject, its in zip(subjects, placements, strict=True)]
    # The subject further back is drawn first.
    for index in sorted(range(len(subjects)), key=lambda i: placements[i].feet):
        picture = _shade(picture, cutouts[index], kind, light, size)
        picture = _lay(picture, _lit(cutouts[index].rgba, light), cutouts[index])
    return Composite(to_bytes(picture), scene, placements, tuple(cutout.box for cutout in cutouts))


def cropped(composite: Composite, index: int) -> NDArray[np.uint8]:
    """A square of the composite around one of its subjects, enlarged to the composite's size."""
    size = len(composite.image)
    left, top, right, bottom = composite.boxes[index]
    side = min(max(right - left, bottom - top), size)
    x, y = (
        min(max((low + high - side) // 2, 0), size - side) for low, high in ((left, right), (top, bottom))
    )
    square = Image.fromarray(composite.image).crop((x, y, x + side, y + side))
    return np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))


def place(rng: Generator, subjects: Sequence[Subject], scene: Scene) -> tuple[Placement, ...]:
    """Random placements inside the frame; of several subjects each takes one slot, in random order.

    Raises ValueError for another number of subjects.
    """
    if len(subjects) == 1:
        extents, slots = [rng.uniform(*look.EXTENT_ALONE)], [None]
    elif len(subjects) in look.SLOTS:
        extents = rng.uniform(*look.EXTENTS[len(subjects)], len(subjects)).tolist()
        slots = rng.permutation(look.SLOTS[len(subjects)]).tolist()
    else:
        raise ValueError(f"a scene holds one to four subjects, got {len(subjects)}")
    return tuple(_place_one(rng, *each, scene) for each in zip(subjects, extents, slots, strict=True))


def _place_one(
    rng: Generator, subject: Subject, extent: float, slot: float | None, scene: Scene
) -> Placement:
    spread = look.UPRIGHT_SPREAD if scene.shadow == "ground" else look.LOOSE_SPREAD
    degrees = float(np.clip(rng.normal(0, spread), -look.MOST_DEGREES, look.MOST_DEGREES))
    flip = bool(rng.random() < 0.5) and not look.SIDED.search(subject.name)
    left = float(rng.uniform(-look.LEFT_LONGER, look.LEFT_LONGER))
    top = float(rng.uniform(-look.TOP_LONGER, look.TOP_LONGER))
    box = np.ptp(_corners(subject.size, degrees, flip, (left, top)), axis=0)
    extent = min(extent, (1 - 2 * look.MARGIN) / box.max())
    width, height = box * extent
    low, high = 0.5 * width + look.MARGIN, 1 - 0.5 * width - look.MARGIN
    x = rng.uniform(low, high) if slot is None else np.clip(slot + rng.normal(0, look.SLOT_SPREAD), low, high)
    feet = max(rng.uniform(*scene.feet), height + look.MARGIN)
    return Placement(float(x), float(feet), float(extent), degrees, flip, (left, top))


def _light(rng: Generator, scene: Scene) -> Light:
    tint = rgb(*scene.tint) * rng.uniform(*look.LIGHT_TINT, 3)
    side = (-1 if rng.random() < 0.5 else 1) * rng.uniform(*look.LIGHT_SIDE)
    contrast, brightness = rng.uniform(*look.LIGHT_CONTRAST), rng.uniform(*look.LIGHT_BRIGHTNESS)
    return Light(side, contrast, brightness, tint.astype(np.float32))


def _cut_out(subject: Subject, placement: Placement, size: int) -> Cutout:
    """The subject scaled, rotated, mirrored and in perspective, cropped to its visible pixels."""
    extent = placement.extent * size
    levels = subject.levels
    # The smallest level with about the resolution of the supersampled canvas.
    enough = [image for image in levels if max(image.size) >= 0.75 * SUPERSAMPLING * extent]
    level = enough[-1] if enough else levels[0]
    corners = _corners(subject.size, placement.degrees, placement.flip, placement.tilt) * extent
    reach = corners.max(0) - corners.min(0)
    side = [int(np.ceil(length)) + 2 for length in reach]
    corners = (corners - corners.min(0) + 1) * SUPERSAMPLING
    w, h = level.size
    data = homography(corners, [(0, 0), (w, 0), (w, h), (0, h)])
    canvas = (side[0] * SUPERSAMPLING, side[1] * SUPERSAMPLING)
    seen = level.transform(canvas, Image.Transform.PERSPECTIVE, data, Image.Resampling.BILINEAR)
    seen = seen.reduce(SUPERSAMPLING)
    seen = seen.crop(seen.getchannel(3).point(lambda alpha: 255 if alpha > 8 else 0).getbbox())
    left = round(placement.x * size - seen.width / 2)
    return Cutout(np.asarray(seen, np.float32) / 255, left, round(placement.feet * size) - seen.height)


def _corners(
    size: tuple[int, int], degrees: float, flip: bool, tilt: tuple[float, float]
) -> NDArray[np.float64]:
    """The corners of the subject's box around its centre, longer side 1: (4, 2), clockwise from top left."""
    box = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
    longer_left, longer_top = tilt
    box *= 1 - 0.5 * np.stack([longer_top * box[:, 1], longer_left * box[:, 0]], 1)
    box *= np.array(size) / max(size) / 2 * ((-1, 1) if flip else (1, 1))
    turn = np.deg2rad(degrees)
    turned: NDArray[np.float64] = box @ np.array(
        [(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))]
    )
    return turned


def _lit(rgba: NDArray[np.floating], light: Light) -> NDArray[np.floating]:
    """The cutout brightened on the side of the light and at the top."""
    height, width = rgba.shape[:2]
    across = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :, None] * light.side
    down = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None, None]
    colour = rgba[..., :3] * (
        light.tint * light.brightness * (1 + light.contrast * (across - look.DOWN * down))
    )
    return np.concatenate([np.minimum(colour, rgba[..., 3:]), rgba[..., 3:]], 2)


def _lay(picture: Picture, rgba: NDArray[np.floating], cutout: Cutout) -> Picture:
    """Draws `rgba` over the picture at the cutout's position, in place, clipped to the frame."""
    size, (height, width) = len(picture), rgba.shape[:2]
    top, left = max(cutout.top, 0), max(cutout.left, 0)
    bottom, right = min(cutout.top + height, size), min(cutout.left + width, size)
    seen = rgba[top - cutout.top : bottom - cutout.top, left - cutout.left : right - cutout.left]
    picture[top:bottom, left:right] *= 1 - seen[..., 3:]
    picture[top:bottom, left:right] += seen[..., :3]
    return picture


def _shade(picture: Picture, cutout: Cutout, scene: Scene, light: Light, size: int) -> Picture:
    """The picture with the subject's shadow on the ground or on the surface behind it."""
    if scene.shadow == "none":
        return picture
    alpha = Image.fromarray(to_bytes(cutout.rgba[..., 3]))
    foot_x, foot_y = cutout.left, cutout.top + alpha.height
    if scene.shadow == "wall":
        shift_x, shift_y = -look.WALL_SHIFT * light.side * size, look.WALL_DROP * size
        cast = _warp(
            alpha, size, (1, 0, -cutout.left - shift_x, 0, 1, -cutout.top - shift_y), blur=look.WALL_BLUR
        )
        return blend(picture, (1 - look.WALL_DARKENS) * picture, look.WALL_OPACITY * cast)
    # The shadow lies on the ground behind the subject: squashed, and sheared away from the light.
    squash, shear = look.GROUND_SQUASH, look.GROUND_SHEAR * light.side
    coefficients = (
        1,
        -shear / squash,
        -foot_x + shear / squash * foot_y,
        0,
        1 / squash,
        alpha.height - foot_y / squash,
    )
    cast = _warp(alpha, size, coefficients, blur=look.GROUND_BLUR)
    mask = np.maximum(look.CAST_OPACITY * cast, look.CONTACT_OPACITY * _contact(cutout, size))
    return blend(picture, (1 - look.GROUND_DARKENS) * picture, mask)


def _warp(alpha: Image.Image, size: int, coefficients: tuple[Real, ...], blur: float) -> Mask:
    """The silhouette's shadow over the frame, blurred by the fraction `blur` of the frame."""
    shadow = alpha.transform((size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return np.asarray(shadow.filter(ImageFilter.BoxBlur(blur * size)), np.float32) / 255


def _contact(cutout: Cutout, size: int) -> Mask:
    """A soft dark ellipse where the subject meets the ground, as wide as its lowest part."""
    height = len(cutout.rgba)
    lowest = cutout.rgba[-max(2, height // look.LOWEST_PART) :, :, 3].max(0)
    touching = np.flatnonzero(lowest >= look.TOUCHING * lowest.max())
    middle = (cutout.left + (touching[0] + touching[-1]) / 2) / size
    half = look.CONTACT_WIDTH * (touching[-1] - touching[0] + 2) / size
    flat = look.CONTACT_HEIGHT
    foot = (cutout.top + height) / size - look.CONTACT_SINKS * flat
    squared = ((columns(size) - middle) / half) ** 2 + ((rows(size) - foot) / flat) ** 2
    dark: Mask = np.exp(-(squared**2)).astype(np.float32)
    return dark
