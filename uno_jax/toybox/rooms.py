"""Indoor scenes. Each function maps (rng, size) to a picture (see raster.py)."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from uno_jax.toybox.raster import (
    Canvas,
    Picture,
    below,
    blend,
    columns,
    flat,
    glow,
    gradient,
    grain,
    noise,
    pick,
    picks,
    recede,
    rgb,
    rows,
    smoothstep,
    to_bytes,
)

PASTELS = ((0.95, 0.9, 0.8), (0.85, 0.9, 0.92), (0.93, 0.84, 0.82), (0.82, 0.9, 0.82), (0.9, 0.87, 0.93))
TILES = ((0.1, 0.1, 0.12), (0.1, 0.1, 0.12), (0.7, 0.15, 0.15), (0.12, 0.25, 0.5), (0.1, 0.4, 0.35))
SPINES = (
    *((0.65, 0.15, 0.15), (0.15, 0.3, 0.55), (0.15, 0.42, 0.3), (0.85, 0.7, 0.3)),
    *((0.5, 0.3, 0.5), (0.9, 0.87, 0.8), (0.2, 0.2, 0.25), (0.8, 0.45, 0.2)),
)
BACKDROPS = (
    *((0.9, 0.9, 0.9), (0.93, 0.75, 0.78), (0.7, 0.82, 0.92)),
    *((0.95, 0.88, 0.65), (0.75, 0.88, 0.76), (0.82, 0.76, 0.9)),
)


def planks(rng: Generator, wood: NDArray[np.floating], count: int, across: bool = False) -> Image.Image:
    """Boards with wood grain as a square texture, along the view or across it."""
    side = 128
    fibres = noise(rng, side, count * 8, 2) * 0.05 + noise(rng, side, count * 3, 1.5) * 0.04
    tones = np.repeat(rng.normal(0, 0.05, count), -(-side // count))[:side]
    seams = (np.arange(side) % -(-side // count) < 2) * 0.22
    boards = wood * (1 + fibres + tones - seams)[..., None]
    image = Image.fromarray(to_bytes(boards.astype(np.float32)))
    return image.transpose(Image.Transpose.ROTATE_90) if across else image


def wooden_table(rng: Generator, size: int) -> Picture:
    edge = rng.uniform(0.42, 0.54)
    wall = pick(rng, [(0.88, 0.84, 0.76), (0.72, 0.78, 0.74), (0.8, 0.72, 0.7), (0.62, 0.68, 0.75)])
    picture = gradient(size, wall, wall * 0.86, end=edge)
    picture = blend(picture, (1, 0.97, 0.9), 0.35 * glow(size, rng.uniform(0.1, 0.9), 0.1, 0.5))
    wood = pick(rng, [(0.62, 0.4, 0.2), (0.72, 0.5, 0.28), (0.5, 0.3, 0.16)], 0.02)
    boards = planks(rng, wood, int(rng.integers(5, 9)), across=rng.random() < 0.4)
    picture = blend(picture, recede(boards, size, edge, near=0.6), below(size, edge))
    front = np.clip(1 - np.abs(rows(size) - edge) * 60, 0, 1) * np.ones((1, size), np.float32)
    return blend(picture, wood * 1.25, front * 0.7)


def checkered_floor(rng: Generator, size: int) -> Picture:
    horizon = rng.uniform(0.4, 0.5)
    wall = pick(rng, PASTELS)
    dark = pick(rng, TILES, 0.02)
    tiles = int(rng.integers(4, 6)) * 2
    squares = np.indices((tiles, tiles)).sum(0) % 2
    squares = np.kron(squares, np.ones((16, 16)))
    texture = Image.fromarray(to_bytes(np.where(squares[..., None], dark, rgb(0.95, 0.95, 0.93))))
    floor = recede(texture, size, horizon, near=0.45)
    picture = blend(gradient(size, wall, wall * 0.92, end=horizon), floor, below(size, horizon))
    canvas = Canvas(size)
    canvas.box(0, horizon - 0.05, 1, horizon, (0.97, 0.97, 0.96))
    canvas.box(0, horizon - 0.008, 1, horizon + 0.004, wall * 0.55)
    return canvas.on(picture) * (1 - 0.12 * smoothstep(rows(size), 0.8, 1.1))[..., None]


def bookshelf(rng: Generator, size: int) -> Picture:
    wood = pick(rng, [(0.45, 0.28, 0.15), (0.6, 0.42, 0.25), (0.35, 0.2, 0.12), (0.8, 0.76, 0.7)], 0.02)
    canvas, high = Canvas(size, wood * 0.45), rng.uniform(0.24, 0.29)
    lowest = rng.uniform(0.78, 0.86)
    for foot in np.arange(lowest, -0.02, -high):
        _books(rng, canvas, foot, high)
        canvas.box(0, foot, 1, foot + 0.025, wood)
        canvas.box(0, foot + 0.025, 1, foot + 0.032, wood * 0.6)
    canvas.box(0, lowest, 1, 1, wood)
    canvas.box(0, lowest, 1, lowest + 0.012, wood * 1.3)
    darker = 0.12 * smoothstep(rows(size), 0, 1)[..., None]
    shaded: Picture = canvas.picture() * (1.02 - darker)
    return shaded + grain(rng, size, 0.015)


def _books(rng: Generator, canvas: Canvas, foot: float, high: float) -> None:
    widths = rng.uniform(0.028, 0.06, 36)
    lefts = np.cumsum(widths) - widths - rng.uniform(0, 0.05)
    colours, tops = picks(rng, SPINES, 36), foot - high * rng.uniform(0.6, 0.85, 36)
    for left, width, top, colour in zip(lefts, widths, tops, colours, strict=True):
        if left > 1 or rng.random() < 0.04:
            continue
        canvas.box(left, top, left + width - 0.004, foot, colour)
        band = 0.2 * (foot - top)
        label = colour * 0.6 if colour.mean() > 0.5 else colour * 0.5 + 0.4
        canvas.box(left + 0.003, top + band, left + width - 0.007, top + 1.5 * band, label)


def rainy_window(rng: Generator, size: int) -> Picture:
    """Out-of-focus lights behind wet panes, a frame and a sill for the subject."""
    dusk = pick(rng, [(0.35, 0.42, 0.5), (0.45, 0.5, 0.55), (0.25, 0.32, 0.42)])
    picture = gradient(size, dusk, (0.3, 0.36, 0.4)) + 0.07 * noise(rng, size, 4)[..., None]
    for _ in range(7):
        light = pick(rng, [(1, 0.8, 0.4), (1, 0.5, 0.3), (0.7, 0.85, 1), (0.9, 0.9, 0.7)])
        spot = glow(size, rng.random(), rng.uniform(0.3, 0.8), rng.uniform(0.04, 0.09))
        picture = blend(picture, light, 0.45 * spot)
    return _window_frame(rng, size).on(_drops(rng, size, 90).on(picture, opacity=0.75))


def _drops(rng: Generator, size: int, count: int) -> Canvas:
    """Drops on glass, lit from above and behind, some with a trail."""
    canvas = Canvas(size)
    x, y, radius = rng.random(count), rng.uniform(0, 0.85, count), rng.uniform(0.004, 0.014, count)
    drops = np.stack([x, y, radius, radius * 1.25], 1)
    bright = drops * [1, 1, 0.75, 0.75] + radius[:, None] * [0.15, 0.2, 0, 0]
    canvas.ellipses(drops, np.full((count, 3), (0.2, 0.25, 0.32)))
    canvas.ellipses(bright, np.full((count, 3), (0.78, 0.84, 0.9)))
    for k in range(count // 10):
        canvas.line([(x[k], y[k] - rng.uniform(0.1, 0.35)), (x[k], y[k])], (0.68, 0.75, 0.82), 0.006)
    return canvas


def _window_frame(rng: Generator, size: int) -> Canvas:
    canvas, sill, bar = Canvas(size), rng.uniform(0.76, 0.82), rng.uniform(0.3, 0.7)
    paint = pick(rng, [(0.93, 0.92, 0.9), (0.5, 0.33, 0.2), (0.88, 0.85, 0.78)], 0.02)
    for left, right in ((0, 0.05), (0.95, 1), (bar - 0.02, bar + 0.02)):
        canvas.box(left, 0, right, sill, paint)
        canvas.box(right - 0.008, 0, right, sill, paint * 0.75)
    canvas.box(0, 0, 1, 0.04, paint * 0.9)
    canvas.box(0, sill, 1, 1, paint)
    canvas.box(0, sill, 1, sill + 0.015, paint * 0.78)
    return canvas


def stage(rng: Generator, size: int) -> Picture:
    """Folded curtains, boards and spotlights."""
    cloth = pick(rng, [(0.65, 0.06, 0.1), (0.55, 0.05, 0.15), (0.72, 0.1, 0.08)], 0.02)
    horizon, spot = rng.uniform(0.6, 0.68), rng.uniform(0.35, 0.65)
    folds = np.sin(columns(size) * rng.uniform(50, 70) + 1.2 * noise(rng, size, 4, 1))
    curtain = flat(size, cloth) * (0.72 + 0.34 * folds)[..., None]
    wood = pick(rng, [(0.5, 0.3, 0.17), (0.42, 0.26, 0.18)], 0.02)
    floor = recede(planks(rng, wood, 10), size, horizon, near=0.5)
    picture = blend(curtain, floor, below(size, horizon))
    picture = picture * (0.55 + 0.25 * rows(size))[..., None]
    beam = np.abs(columns(size) - spot) / (0.1 + 0.34 * rows(size))
    pool = np.hypot((columns(size) - spot) / 0.42, (rows(size) - 0.84) / 0.14)
    light = 0.4 * smoothstep(-beam, -1.0, -0.75) + 0.35 * smoothstep(-pool, -1.0, -0.7)
    picture = picture * (1 + 1.3 * light)[..., None] + 0.05 * light[..., None]
    canvas = Canvas(size)
    for x in np.linspace(0, 1, 7):
        canvas.ellipse(x, 0.0, 0.1, 0.1, cloth * 0.75)
        canvas.ellipse(x, -0.015, 0.1, 0.1, cloth * 0.95)
    canvas.box(0, 0, 1, 0.02, (0.8, 0.62, 0.25))
    return canvas.on(picture)


def studio(rng: Generator, size: int) -> Picture:
    """A plain backdrop of one colour that curves into the floor."""
    colour = pick(rng, BACKDROPS)
    bend = rng.uniform(0.6, 0.7)
    shade = 0.9 - 0.1 * smoothstep(rows(size), bend - 0.15, bend)
    shade = shade + 0.12 * smoothstep(rows(size), bend, bend + 0.12)
    light = 0.14 * glow(size, rng.uniform(0.2, 0.8), 0.25, 0.45)
    picture: Picture = flat(size, colour) * shade[..., None] + light[..., None]
    return picture
