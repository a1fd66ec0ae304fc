"""Drawing functions shared by the scenes: seeded noise, gradients, masks and a supersampled canvas.

A picture is float32 (size, size, 3) in 0..1, a mask float32 (size, size) in 0..1. Coordinates are fractions
of the frame, with (0, 0) at the top left. Colours are three numbers in 0..1.
"""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

# In fact float32; numpy's stubs type the results of many float32 operations as float64.
Picture = NDArray[np.floating]
Mask = NDArray[np.floating]
Real = int | float  # spelled out, since run-time checks do not take an int for a float
Colour = NDArray[np.floating] | Sequence[Real]
Points = NDArray[np.floating] | Sequence[Sequence[Real]]  # (n, 2) as x, y

CANVAS = 256  # smallest side of a supersampled canvas in pixels; it is also at least twice the picture's


def rgb(red: Real, green: Real, blue: Real) -> NDArray[np.floating]:
    return np.array((red, green, blue), np.float32)


def pick(rng: Generator, colours: Sequence[Colour], vary: Real = 0.04) -> NDArray[np.floating]:
    """One of the colours, varied in lightness and a little in hue."""
    colour = np.asarray(colours[int(rng.integers(len(colours)))], np.float32)
    return np.clip(colour + rng.normal(0, vary) + rng.normal(0, vary / 2, 3), 0, 1).astype(np.float32)


def picks(rng: Generator, colours: Sequence[Colour], count: int, vary: Real = 0.05) -> NDArray[np.floating]:
    """`count` colours as (count, 3), each one of `colours`, varied in lightness."""
    chosen = np.asarray(colours, np.float32)[rng.integers(len(colours), size=count)]
    return np.clip(chosen + rng.normal(0, vary, (count, 1)), 0, 1).astype(np.float32)


def flat(size: int, colour: Colour) -> Picture:
    return np.broadcast_to(np.asarray(colour, np.float32), (size, size, 3)).copy()


def gradient(size: int, top: Colour, bottom: Colour, start: Real = 0.0, end: Real = 1.0) -> Picture:
    """A vertical gradient from `top` at height `start` to `bottom` at height `end`."""
    t = np.clip((rows(size) - start) / (end - start), 0, 1)[:, :, None]
    first, last = np.asarray(top, np.float32), np.asarray(bottom, np.float32)
    return np.broadcast_to(first + (last - first) * t, (size, size, 3)).astype(np.float32)


def rows(size: int) -> NDArray[np.floating]:
    """Heights of the pixels' centres, (size, 1)."""
    return ((np.arange(size, dtype=np.float32) + 0.5) / size)[:, None]


def columns(size: int) -> NDArray[np.floating]:
    return rows(size).T


def noise(rng: Generator, size: int, across: Real, down: Real | None = None, octaves: int = 1) -> Mask:
    """Smooth noise in about -1..1 with `across` bumps horizontally and `down` vertically (None: as many)."""
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        grid_w = max(2, round(across * 2**octave) + 1)
        grid_h = max(2, round((across if down is None else down) * 2**octave) + 1)
        grid = rng.random((grid_h, grid_w), dtype=np.float32) * 2 - 1
        bumps = Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC)
        total += np.asarray(bumps) / 2**octave
    return total


def grain(rng: Generator, size: int, strength: Real) -> NDArray[np.floating]:
    """Fine noise to add to a picture, (size, size, 1)."""
    return (rng.random((size, size, 1), dtype=np.float32) - 0.5) * (2 * strength)


def ridge(rng: Generator, size: int, height: Real, roughness: Real, bumps: int = 4, octaves: int = 2) -> Mask:
    """A skyline: the edge's height in each column, (size,), within about `roughness` of `height`."""
    at = np.linspace(0, 1, size, dtype=np.float32)
    edge = np.full(size, height, np.float32)
    for octave in range(octaves):
        knots = rng.uniform(-1, 1, bumps * 2**octave + 1)
        edge += roughness / 2**octave * np.interp(at, np.linspace(0, 1, len(knots)), knots).astype(np.float32)
    return edge


def below(size: int, edge: NDArray[np.floating] | Real) -> Mask:
    """A mask, 1 under the edge (one number, or one per column), with an antialiased border."""
    covered: Mask = np.clip((rows(size) - edge) * size + 0.5, 0, 1)
    return np.broadcast_to(covered, (size, size)).astype(np.float32)


def disc(size: int, x: Real, y: Real, radius: Real, softness: Real = 0.0) -> Mask:
    """A mask, 1 inside a circle; `softness` widens the border, which is otherwise one pixel."""
    distance = np.hypot(columns(size) - x, rows(size) - y)
    inside: Mask = np.clip((radius - distance) / max(softness, 1 / size) + 0.5, 0, 1)
    return inside.astype(np.float32)


def glow(size: int, x: Real, y: Real, radius: Real) -> Mask:
    squared = (columns(size) - x) ** 2 + (rows(size) - y) ** 2
    faded: Mask = np.exp(-squared / radius**2)
    return faded.astype(np.float32)


def blend(picture: Picture, over: Colour, mask: Mask | Real) -> Picture:
    """The picture with `over` (a colour or a picture) where the mask is 1."""
    weight = np.asarray(mask, np.float32)
    weight = weight[..., None] if weight.ndim == 2 else weight
    blended: Picture = picture + (np.asarray(over, np.float32) - picture) * weight
    return blended


def smoothstep(values: NDArray[np.floating], low: Real, high: Real) -> NDArray[np.floating]:
    t = np.clip((values - low) / (high - low), 0, 1)
    smooth: NDArray[np.floating] = t * t * (3 - 2 * t)
    return smooth.astype(np.float32)


def homography(target: Points, source: Points) -> list[float]:
    """Pillow's eight PERSPECTIVE coefficients that map the source's four corners to the target's four."""
    (x, y), (u, v) = np.asarray(target, float).T, np.asarray(source, float).T
    one, zero = np.ones(4), np.zeros(4)
    for_u = np.stack([x, y, one, zero, zero, zero, -u * x, -u * y], 1)
    for_v = np.stack([zero, zero, zero, x, y, one, -v * x, -v * y], 1)
    solved: list[float] = np.linalg.solve(np.concatenate([for_u, for_v]), np.concatenate([u, v])).tolist()
    return solved


def recede(texture: Image.Image, size: int, horizon: Real, near: Real = 0.4) -> Picture:
    """A square texture on the floor, with its far edge at the horizon.

    `near` is the fraction of the texture's width visible at the frame's lower edge. Rows above the horizon
    are undefined.
    """
    side, canvas = texture.width, _canvas(size)
    frame = np.array([(0, horizon), (1, horizon), (1, 1), (0, 1)]) * canvas
    corners = np.array([(0, 0), (1, 0), (0.5 + near / 2, 1), (0.5 - near / 2, 1)]) * side
    data = homography(frame, corners)
    seen = texture.transform((canvas, canvas), Image.Transform.PERSPECTIVE, data, Image.Resampling.BILINEAR)
    return to_floats(seen.reduce(canvas // size))


def to_bytes(picture: Picture) -> NDArray[np.uint8]:
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def to_floats(image: Image.Image) -> Picture:
    return np.asarray(image, np.float32) / 255


def _canvas(size: int) -> int:
    """The side of the supersampled canvas for a picture of this size, a multiple of it."""
    return size * max(2, CANVAS // size)


class Canvas:
    """Shapes drawn larger than the picture, on transparency or a colour, and averaged down at the end."""

    def __init__(self, size: int, ground: Colour | None = None):
        self.size, self.side = size, _canvas(size)
        self.clear = ground is None
        mode = "RGBA" if ground is None else "RGB"
        self.image = Image.new(mode, (self.side, self.side), 0 if ground is None else self._ink(ground))
        self.pen = ImageDraw.Draw(self.image)

    def polygon(self, points: Points, colour: Colour) -> None:
        self.pen.polygon((np.asarray(points, np.float32) * self.side).ravel().tolist(), self._ink(colour))

    def ellipse(self, x: Real, y: Real, rx: Real, ry: Real, colour: Colour) -> None:
        side = self.side
        box = ((x - rx) * side, (y - ry) * side, (x + rx) * side, (y + ry) * side)
        self.pen.ellipse(box, self._ink(colour))

    def box(self, x0: Real, y0: Real, x1: Real, y1: Real, colour: Colour) -> None:
        side = self.side
        self.pen.rectangle((x0 * side, y0 * side, x1 * side - 1, y1 * side - 1), self._ink(colour))

    def line(self, points: Points, colour: Colour, width: Real) -> None:
        ends = (np.asarray(points, np.float32) * self.side).ravel().tolist()
        self.pen.line(ends, self._ink(colour), max(1, round(width * self.side)))

    def polygons(self, shapes: NDArray[np.floating], colours: NDArray[np.floating]) -> None:
        """Draws polygons with equal numbers of corners in order: shapes (n, corners, 2), colours (n, 3)."""
        corners = (shapes.reshape(len(shapes), -1) * self.side).tolist()
        for points, ink in zip(corners, self._inks(colours), strict=True):
            self.pen.polygon(points, ink)

    def ellipses(self, shapes: NDArray[np.floating], colours: NDArray[np.floating]) -> None:
        """Draws ellipses in order: shapes (n, 4) as x, y and the two radii, colours (n, 3)."""
        centre, radius = shapes[:, :2] * self.side, shapes[:, 2:] * self.side
        boxes = np.concatenate([centre - radius, centre + radius], 1).tolist()
        for box, ink in zip(boxes, self._inks(colours), strict=True):
            self.pen.ellipse(box, ink)

    def on(self, picture: Picture, opacity: Real = 1.0) -> Picture:
        """The picture with the canvas drawn over it."""
        drawn = np.asarray(self.image.convert("RGBa").reduce(self.side // self.size), np.float32) / 255
        if opacity != 1:
            drawn = drawn * opacity
        return picture * (1 - drawn[..., 3:]) + drawn[..., :3]

    def picture(self) -> Picture:
        return to_floats(self.image.convert("RGB").reduce(self.side // self.size))

    def _ink(self, colour: Colour) -> tuple[int, ...]:
        return self._inks(np.asarray(colour, np.float32)[None])[0]

    def _inks(self, colours: NDArray[np.floating]) -> list[tuple[int, ...]]:
        inks = to_bytes(colours.astype(np.float32)).tolist()
        return [(*ink, 255) if self.clear else tuple(ink) for ink in inks]
