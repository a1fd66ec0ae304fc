"""Scenes of one surface, walls or the ground from above. Each function maps (rng, size) to a picture."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from uno_jax.toybox.raster import (
    Canvas,
    Picture,
    below,
    blend,
    columns,
    gradient,
    grain,
    noise,
    pick,
    picks,
    rgb,
    rows,
    smoothstep,
)

HALF_LEAF = np.array(
    [(0, -1), (0.22, -0.45), (0.75, -0.55), (0.5, -0.05), (0.85, 0.35), (0.3, 0.4), (0.06, 0.6), (0.05, 1.1)]
)
LEAF = np.concatenate([HALF_LEAF, HALF_LEAF[::-1] * [-1, 1]])
LEAF_COLOURS = (
    (0.75, 0.32, 0.1),
    (0.82, 0.54, 0.14),
    (0.62, 0.2, 0.1),
    (0.55, 0.32, 0.13),
    (0.85, 0.66, 0.26),
)
STONES = ((0.55, 0.54, 0.53), (0.68, 0.66, 0.62), (0.42, 0.43, 0.46), (0.6, 0.54, 0.48), (0.78, 0.77, 0.75))
DIAMOND = np.array([(0, -1), (1, 0), (0, 1), (-1, 0)])


def brick_wall(rng: Generator, size: int) -> Picture:
    """Courses of bricks above a pavement."""
    clay = pick(rng, [(0.62, 0.26, 0.2), (0.7, 0.36, 0.24), (0.55, 0.22, 0.2), (0.68, 0.42, 0.32)])
    canvas = Canvas(size, pick(rng, [(0.86, 0.83, 0.77), (0.7, 0.68, 0.65)]))
    high, pavement = rng.uniform(0.065, 0.085), rng.uniform(0.8, 0.86)
    wide, joint = high * 2.3, 0.011
    for course, y in enumerate(np.arange(-rng.uniform(0, high), pavement, high)):
        start = -wide * (0.5 if course % 2 else 1) - wide * 0.25
        lefts = np.arange(start, 1.05, wide)
        bricks = _boxes(lefts, np.full_like(lefts, y), wide - joint, high - joint)
        canvas.polygons(bricks, picks(rng, [clay, clay * 0.88, clay * 1.1], len(lefts), 0.025))
    stone = pick(rng, [(0.55, 0.55, 0.55), (0.62, 0.6, 0.56)])
    canvas.box(0, pavement, 1, 1, stone)
    canvas.box(0, pavement, 1, pavement + 0.018, stone * 0.7)
    for x in np.linspace(-0.6, 1.6, 8):
        canvas.line([(0.5 + (x - 0.5) * 0.75, pavement + 0.018), (x, 1.0)], stone * 0.75, 0.006)
    weathered: Picture = canvas.picture() * (1 + 0.06 * noise(rng, size, 20)[..., None])
    return weathered + grain(rng, size, 0.025)


def _boxes(
    x: NDArray[np.floating], y: NDArray[np.floating], wide: float, high: float
) -> NDArray[np.floating]:
    corners = [(x, y), (x + wide, y), (x + wide, y + high), (x, y + high)]
    return np.stack([np.stack(corner, 1) for corner in corners], 1)


def autumn_leaves(rng: Generator, size: int) -> Picture:
    """Fallen leaves over the whole frame, larger towards the viewer."""
    canvas, count = Canvas(size, (0.28, 0.16, 0.08)), 210
    y = np.sort(rng.uniform(-0.05, 1.05, count))
    places = np.stack([rng.uniform(-0.05, 1.05, count), y], 1)
    turn = rng.uniform(0, 2 * np.pi, count)
    length = (0.045 + 0.05 * np.clip(y, 0, 1)) * rng.uniform(0.8, 1.2, count)
    cos, sin = length * np.cos(turn), length * np.sin(turn)
    rotation = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)
    leaves = np.einsum("pk,njk->npj", LEAF, rotation) + places[:, None]
    colours = picks(rng, LEAF_COLOURS, count)
    # Shadow, leaf, vein; the vein repeats its last corner, so that all have the same number and are one call.
    veins = leaves[:, [0, 7] + [8] * (len(LEAF) - 2)]
    shapes = np.stack([leaves + 0.008, leaves, veins], 1).reshape(-1, len(LEAF), 2)
    canvas.polygons(shapes, np.stack([colours * 0.45, colours, colours * 0.7], 1).reshape(-1, 3))
    return canvas.picture()


def pebbles(rng: Generator, size: int) -> Picture:
    """Rounded stones side by side, each lit from the upper left."""
    canvas, across = Canvas(size, (0.2, 0.19, 0.19)), rng.integers(8, 11)
    step = 1 / across
    gx, gy = np.meshgrid(np.arange(-1, across + 1), np.arange(-1, across * 1.25 + 1), indexing="xy")
    x = (gx + 0.5 * (gy % 2) + rng.uniform(-0.16, 0.16, gx.shape)).ravel() * step + 0.5 * step
    y = (gy + rng.uniform(-0.16, 0.16, gy.shape)).ravel() * step * 0.8 + 0.4 * step
    rx, ry = step * rng.uniform(0.42, 0.62, (2, x.size)) * np.array([[1.0], [0.82]])
    stones = np.stack([x, y, rx, ry], 1)
    tones = picks(rng, STONES, x.size)
    # Each stone is four ellipses, each smaller, brighter and further up to the left than the one before.
    layers = [(1.0, 0.0, 0.55), (0.92, 0.06, 0.85), (0.75, 0.16, 1.0), (0.42, 0.3, 1.16)]
    to_light = np.stack([rx, ry, 0 * rx, 0 * ry], 1)
    shapes = np.stack([stones * [1, 1, part, part] - to_light * shift for part, shift, _ in layers], 1)
    colours = np.stack([tones * bright for *_, bright in layers], 1)
    order = rng.permutation(x.size)
    canvas.ellipses(shapes[order].reshape(-1, 4), colours[order].reshape(-1, 3))
    return canvas.picture() + grain(rng, size, 0.03)


def lava(rng: Generator, size: int) -> Picture:
    """Black crust with glowing cracks, a volcano and a red sky."""
    horizon = rng.uniform(0.24, 0.36)
    heat = 1 - smoothstep(np.abs(noise(rng, size, 5, 9, octaves=3)), 0.03, 0.3)
    rock = 0.1 + 0.06 * noise(rng, size, 24)[..., None] + rgb(0.03, 0.01, 0.01)
    ground = blend(blend(rock, (0.9, 0.2, 0.02), heat * 0.9), (1, 0.85, 0.3), smoothstep(heat, 0.75, 1.0))
    sky = gradient(size, (0.12, 0.03, 0.04), pick(rng, [(0.75, 0.2, 0.05), (0.6, 0.12, 0.08)]), end=horizon)
    sky = blend(sky, (0.1, 0.05, 0.05), smoothstep(noise(rng, size, 4, 8, octaves=2), 0, 1) * 0.7)
    peak, wide = rng.uniform(0.2, 0.8), rng.uniform(0.3, 0.45)
    slope = np.maximum(horizon - 0.2 + np.abs(columns(size)[0] - peak) * (0.2 / wide), horizon - 0.16)
    mountain = below(size, slope)
    picture = blend(sky, (0.08, 0.03, 0.03), mountain)
    stream = mountain * np.exp(-(((columns(size) - peak) / 0.02) ** 2)) * (0.6 + 0.4 * noise(rng, size, 6))
    return blend(blend(picture, (1, 0.45, 0.05), np.clip(stream, 0, 1)), ground, below(size, horizon))


def carpet(rng: Generator, size: int) -> Picture:
    """A patterned rug from above with a strip of the floor around it."""
    wool = pick(rng, [(0.6, 0.1, 0.15), (0.12, 0.2, 0.42), (0.1, 0.35, 0.3), (0.45, 0.15, 0.4)])
    gold = 0.6 * wool + 0.4 * pick(rng, [(0.85, 0.65, 0.25), (0.8, 0.55, 0.35)])
    cream = 0.6 * wool + 0.4 * pick(rng, [(0.93, 0.87, 0.72)])
    canvas, edge = Canvas(size, pick(rng, [(0.55, 0.38, 0.24), (0.7, 0.55, 0.38)])), rng.uniform(0.02, 0.06)
    for inset, colour in ((0, gold), (0.02, wool * 0.7), (0.07, cream), (0.085, wool)):
        canvas.box(edge + inset, edge + inset, 1 - edge - inset, 1 - edge - inset, colour)
    _rug_border(canvas, edge + 0.045, gold)
    repeats = int(rng.integers(3, 6))
    step = (1 - 2 * edge - 0.2) / repeats
    middles = edge + 0.1 + step * (np.arange(repeats) + 0.5)
    x, y = (grid.ravel() for grid in np.meshgrid(middles, middles))
    turns = np.arange(x.size) + np.arange(x.size) // repeats
    for reach, colours in ((0.46, [gold]), (0.34, [wool * 0.75, cream]), (0.2, [gold, wool])):
        shapes = np.stack([x, y], 1)[:, None] + DIAMOND * (reach * step)
        canvas.polygons(shapes, np.asarray(colours)[turns % len(colours)])
    weave = 0.035 * np.sin(columns(size) * 64 * np.pi) * np.sin(rows(size) * 64 * np.pi)
    worn = canvas.picture() * (1 + 0.05 * noise(rng, size, 6)[..., None])
    woven: Picture = worn + weave[..., None]
    return woven + grain(rng, size, 0.03)


def _rug_border(canvas: Canvas, inset: float, colour: NDArray[np.floating]) -> None:
    along = np.linspace(inset, 1 - inset, 15)
    fixed = np.full_like(along, inset)
    sides = [(along, fixed), (along, 1 - fixed), (fixed, along), (1 - fixed, along)]
    centres = np.concatenate([np.stack(side, 1) for side in sides])
    canvas.polygons(centres[:, None] + DIAMOND * 0.018, np.tile(colour, (len(centres), 1)))
