"""Scenes of ground under an open sky. Each function maps (rng, size) to a picture (see raster.py)."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from uno_jax.toybox.raster import (
    Canvas,
    Picture,
    below,
    blend,
    columns,
    disc,
    flat,
    glow,
    gradient,
    grain,
    noise,
    pick,
    picks,
    rgb,
    ridge,
    rows,
    smoothstep,
)

DAY_SKIES = ((0.36, 0.62, 0.92), (0.45, 0.72, 0.95), (0.30, 0.55, 0.85), (0.55, 0.75, 0.92))
PETALS = (
    *((0.92, 0.2, 0.35), (0.98, 0.8, 0.15), (0.95, 0.5, 0.75)),
    *((0.6, 0.3, 0.8), (1, 1, 0.95), (0.98, 0.45, 0.1)),
)
WALLS = ((0.6, 0.4, 0.33), (0.55, 0.58, 0.62), (0.72, 0.66, 0.55), (0.4, 0.45, 0.55), (0.78, 0.75, 0.7))


def day_sky(rng: Generator, size: int, horizon: float) -> Picture:
    """A blue sky, paler towards the horizon, with or without thin clouds."""
    sky = gradient(size, pick(rng, DAY_SKIES), (0.85, 0.92, 0.97), end=horizon + 0.05)
    clouds = smoothstep(noise(rng, size, 3, 6, octaves=3), rng.uniform(0.1, 0.8), 1.4)
    return blend(sky, (1, 1, 1), clouds * 0.9)


def blades(rng: Generator, count: int, horizon: float, length: float) -> NDArray[np.floating]:
    """Thin upright triangles, larger towards the viewer, far ones first: (count, 3, 2)."""
    depth = np.sort(rng.random(count)) ** 1.5
    foot = horizon + (1.04 - horizon) * depth
    tall = length * (0.15 + depth) * rng.uniform(0.6, 1.2, count)
    x, lean = rng.random(count), rng.normal(0, 0.4, count) * tall
    wide = 0.1 * tall + 0.001
    left, tip, right = (x - wide, foot), (x + lean, foot - tall), (x + wide, foot)
    return np.stack([np.stack(point, 1) for point in (left, tip, right)], 1).astype(np.float32)


def grass(rng: Generator, size: int) -> Picture:
    horizon = rng.uniform(0.32, 0.5)
    picture = day_sky(rng, size, horizon)
    far = pick(rng, [(0.30, 0.55, 0.25), (0.40, 0.62, 0.28)])
    near = pick(rng, [(0.20, 0.52, 0.14), (0.30, 0.6, 0.15)])
    hills = below(size, ridge(rng, size, horizon - 0.03, 0.05, bumps=3))
    picture = blend(picture, far * 0.8 + 0.1, hills)
    tufts = 1 + 0.12 * noise(rng, size, 8, 20, octaves=2)
    meadow = gradient(size, far + 0.08, near, horizon) * tufts[..., None]
    picture = blend(picture, meadow, below(size, horizon))
    canvas = Canvas(size)
    colours = picks(rng, [near * 0.75, near, near * 1.15 + 0.06, (0.55, 0.72, 0.25)], 420, vary=0.03)
    canvas.polygons(blades(rng, 420, horizon, 0.13), colours)
    return canvas.on(picture)


def flower_field(rng: Generator, size: int) -> Picture:
    horizon = rng.uniform(0.25, 0.4)
    picture = blend(day_sky(rng, size, horizon), (0.25, 0.5, 0.2), below(size, horizon))
    canvas = Canvas(size)
    kinds = rng.permutation(len(PETALS))[: rng.integers(2, 4)]
    canvas.polygons(blades(rng, 160, horizon, 0.12), picks(rng, [(0.2, 0.5, 0.15), (0.3, 0.6, 0.2)], 160))
    depth = np.sort(rng.random(150)) ** 1.3
    flowers = np.stack([rng.random(150), horizon + (1.05 - horizon) * depth, 0.008 + 0.03 * depth], 1)
    _flowers(canvas, flowers, picks(rng, [PETALS[kind] for kind in kinds], 150))
    return canvas.on(picture)


def _flowers(canvas: Canvas, flowers: NDArray[np.float64], colours: NDArray[np.floating]) -> None:
    """Draws flowers (n, 3), given as x, y and radius, with five petals and a yellow middle each."""
    turns = np.linspace(0, 2 * np.pi, 5, endpoint=False)
    offsets = np.stack([0.6 * np.cos(turns), 0.5 * np.sin(turns)], 1)
    offsets = np.concatenate([offsets, [(0, 0)]])
    radii = np.array([(0.55, 0.5)] * 5 + [(0.35, 0.3)])
    centres = flowers[:, None, :2] + offsets * flowers[:, None, 2:]
    shapes = np.concatenate([centres, radii * flowers[:, None, 2:]], 2)
    inks = np.repeat(colours[:, None], 6, 1)
    inks[:, 5] = (0.95, 0.75, 0.1)
    canvas.ellipses(shapes.reshape(-1, 4), inks.reshape(-1, 3))


def beach(rng: Generator, size: int) -> Picture:
    horizon, shore = rng.uniform(0.25, 0.36), rng.uniform(0.48, 0.58)
    picture = day_sky(rng, size, horizon)
    sea = gradient(size, pick(rng, [(0.1, 0.4, 0.65), (0.1, 0.5, 0.7)]), (0.35, 0.8, 0.8), horizon, shore)
    waves = noise(rng, size, 6, 60)
    picture = blend(picture, sea + 0.06 * waves[..., None], below(size, horizon))
    edge = ridge(rng, size, shore, 0.025, bumps=3)
    picture = blend(picture, (1, 1, 1), below(size, edge - 0.02) * 0.9)
    sand = pick(rng, [(0.93, 0.83, 0.6), (0.9, 0.78, 0.55), (0.95, 0.88, 0.7)], 0.02)
    ground = gradient(size, sand * 0.82, sand, shore, shore + 0.12) + grain(rng, size, 0.035)
    ground = ground + 0.05 * noise(rng, size, 4, 12, octaves=2)[..., None]
    picture = blend(picture, ground, below(size, edge))
    return _palm(rng, size, picture) if rng.random() < 0.5 else picture


def _palm(rng: Generator, size: int, picture: Picture) -> Picture:
    canvas = Canvas(size)
    x, top = rng.choice([rng.uniform(0.04, 0.16), rng.uniform(0.84, 0.96)]), rng.uniform(0.12, 0.22)
    trunk = [(x + 0.03, 0.62), (x + 0.01, 0.4), (x, top)]
    canvas.line(trunk, (0.5, 0.35, 0.2), 0.025)
    for turn in np.linspace(0.1, np.pi * 1.9, 8) + rng.normal(0, 0.1):
        out, reach = np.array([np.cos(turn), 0.7 * np.sin(turn)]), rng.uniform(0.14, 0.2)
        along = np.array([0, 0.5, 1, 0.5])[:, None] * out * reach
        frond = (x, top) + along + [(0, 0), (0, -0.035), (0, 0.06), (0, 0)]
        canvas.polygon(frond, pick(rng, [(0.15, 0.5, 0.2)]))
    return canvas.on(picture)


def snow(rng: Generator, size: int) -> Picture:
    horizon = rng.uniform(0.4, 0.52)
    sky = pick(rng, [(0.6, 0.7, 0.82), (0.7, 0.78, 0.88), (0.55, 0.66, 0.8)])
    picture = gradient(size, sky, (0.92, 0.94, 0.97), end=horizon)
    picture = blend(picture, (0.8, 0.86, 0.93), below(size, ridge(rng, size, horizon - 0.06, 0.06, bumps=3)))
    canvas = Canvas(size)
    for x in rng.permutation(np.linspace(0, 1, 9))[: rng.integers(3, 8)] + rng.normal(0, 0.02):
        colour = pick(rng, [(0.16, 0.34, 0.3), (0.2, 0.38, 0.36)])
        _fir(canvas, x, horizon + 0.02, rng.uniform(0.15, 0.34), colour)
    picture = canvas.on(picture)
    ground = gradient(size, (0.9, 0.94, 0.98), (0.98, 0.99, 1.0), horizon)
    drifts = smoothstep(noise(rng, size, 3, 7, octaves=2), -0.2, 1.3)[..., None] * rgb(0.16, 0.1, 0.03)
    picture = blend(picture, ground - drifts, below(size, ridge(rng, size, horizon, 0.025, bumps=2)))
    return _flakes(rng, size, 70).on(picture, opacity=0.9)


def _flakes(rng: Generator, size: int, count: int) -> Canvas:
    canvas, radius = Canvas(size), rng.uniform(0.003, 0.009, count)
    canvas.ellipses(np.stack([rng.random(count), rng.random(count), radius, radius], 1), np.ones((count, 3)))
    return canvas


def _fir(canvas: Canvas, x: float, foot: float, height: float, colour: NDArray[np.floating]) -> None:
    canvas.box(x - 0.01, foot - 0.05, x + 0.01, foot, (0.3, 0.22, 0.16))
    for tier in range(3):
        low, wide = foot - 0.03 - tier * height * 0.25, height * (0.3 - 0.07 * tier)
        peak = low - height * 0.45
        canvas.polygon([(x - wide, low), (x, peak), (x + wide, low)], colour)
        cap = [(x - wide * 0.45, peak + height * 0.2), (x, peak), (x + wide * 0.45, peak + height * 0.2)]
        canvas.polygon(cap, (0.95, 0.97, 1))


def desert(rng: Generator, size: int) -> Picture:
    horizon = rng.uniform(0.4, 0.52)
    sky = pick(rng, [(0.95, 0.75, 0.5), (0.6, 0.75, 0.85), (0.98, 0.82, 0.6)])
    picture = gradient(size, sky, (1, 0.92, 0.72), end=horizon)
    sun = disc(size, rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.25), 0.06, 0.02)
    picture = blend(picture, (1, 0.97, 0.8), sun)
    sand = pick(rng, [(0.88, 0.55, 0.25), (0.83, 0.47, 0.22), (0.9, 0.62, 0.32)], 0.02)
    for layer, height in enumerate(np.linspace(horizon - 0.08, 0.72, 4)):
        phase, bend = rng.uniform(0, 6), rng.uniform(3, 6)
        edge = height + rng.uniform(0.03, 0.06) * np.sin(columns(size)[0] * bend + phase)
        slope = np.cos(columns(size) * bend + phase - 3 * (rows(size) - height))
        lit = (0.82 + 0.22 * smoothstep(slope, -0.4, 0.4)) * (0.86 + 0.05 * layer)
        ripples = rows(size) * 90 + 3 * np.sin(columns(size) * 9 + phase)
        lit = lit + 0.025 * np.sin(ripples * (1.3 - 0.15 * layer))
        picture = blend(picture, sand * lit[..., None], below(size, edge))
    canvas = Canvas(size)
    for x in rng.uniform(0.04, 0.96, rng.integers(1, 4)):
        _cactus(canvas, x, horizon + rng.uniform(0.02, 0.12), rng.uniform(0.12, 0.22))
    return canvas.on(picture) + grain(rng, size, 0.02)


def _cactus(canvas: Canvas, x: float, foot: float, height: float) -> None:
    green, w = (0.25, 0.45, 0.25), 0.14 * height
    canvas.box(x - w, foot - height, x + w, foot, green)
    canvas.ellipse(x, foot - height, w, w, green)
    for side, up in ((-1, 0.5), (1, 0.7)):
        elbow, low, high = x + side * 3 * w, foot - height * (up - 0.2), foot - height * (up + 0.15)
        canvas.line([(x, low), (elbow, low), (elbow, high)], green, 1.5 * w)


def forest(rng: Generator, size: int) -> Picture:
    horizon = rng.uniform(0.5, 0.6)
    light = pick(rng, [(0.45, 0.62, 0.3), (0.35, 0.55, 0.35), (0.55, 0.65, 0.3)])
    leaves = smoothstep(noise(rng, size, 9, octaves=3), -0.8, 0.9)
    shade = np.clip(1.1 - np.abs(columns(size) - rng.uniform(0.3, 0.7)) - rows(size) * 0.3, 0.25, 1)
    picture = blend(flat(size, (0.08, 0.2, 0.1)), light, leaves * shade)
    floor = gradient(size, (0.2, 0.3, 0.12), pick(rng, [(0.38, 0.3, 0.16), (0.3, 0.36, 0.15)]), horizon)
    floor = floor * (1 + 0.25 * noise(rng, size, 12, 30, octaves=2))[..., None]
    picture = blend(picture, floor, below(size, ridge(rng, size, horizon, 0.02)))
    canvas, bark = Canvas(size), pick(rng, [(0.3, 0.2, 0.13), (0.38, 0.28, 0.2), (0.25, 0.2, 0.17)])
    for depth in np.sort(rng.random(rng.integers(9, 14))):
        _trunk(canvas, rng.random(), horizon + 0.01 + 0.13 * depth, depth, bark * (0.6 + 0.5 * depth))
    picture = canvas.on(picture)
    top = smoothstep(noise(rng, size, 8, octaves=3) - rows(size) * 5, -0.9, 0.1)
    return blend(picture, light * 0.75, top * 0.9)


def _trunk(canvas: Canvas, x: float, foot: float, depth: float, bark: NDArray[np.floating]) -> None:
    """Draws a stem from the frame's top to its spreading foot, with its right half in shade."""
    w = 0.008 + 0.04 * depth**2
    right = [(x + w, -0.01), (x + w * 1.1, foot - 0.05), (x + w * 1.8, foot)]
    canvas.polygon(right + [(2 * x - at, y) for at, y in reversed(right)], bark)
    canvas.polygon([(x, -0.01), (x + w, -0.01), (x + w, foot - 0.04), (x, foot - 0.02)], bark * 0.7)


def city_street(rng: Generator, size: int) -> Picture:
    horizon, vanish = rng.uniform(0.5, 0.58), rng.uniform(0.4, 0.6)
    canvas = Canvas(size, pick(rng, [(0.65, 0.78, 0.9), (0.8, 0.82, 0.85), (0.95, 0.8, 0.65)]))
    for x in np.arange(-0.05, 1.0, 0.16) + rng.normal(0, 0.02, 7):
        _building(rng, canvas, x, rng.uniform(0.15, 0.2), rng.uniform(0.05, 0.35), horizon)
    canvas.box(0, horizon, 1, 1, pick(rng, [(0.62, 0.6, 0.58), (0.55, 0.55, 0.58)]))
    asphalt = pick(rng, [(0.25, 0.25, 0.28), (0.33, 0.33, 0.35)], 0.02)
    canvas.polygon([(vanish - 0.06, horizon), (vanish + 0.06, horizon), (1.15, 1.0), (-0.15, 1.0)], asphalt)
    for near, far in ((1.0, 0.72), (0.5, 0.34), (0.24, 0.16), (0.1, 0.06)):
        xs = [vanish + (0.5 - vanish) * depth for depth in (near, far)]
        ys = [horizon + (1 - horizon) * depth for depth in (near, far)]
        w = 0.03 * np.array([near, far])
        dash = [(xs[0] - w[0], ys[0]), (xs[0] + w[0], ys[0]), (xs[1] + w[1], ys[1]), (xs[1] - w[1], ys[1])]
        canvas.polygon(dash, (0.93, 0.9, 0.75))
    return canvas.picture() + grain(rng, size, 0.02)


def _building(rng: Generator, canvas: Canvas, x: float, width: float, top: float, foot: float) -> None:
    wall = pick(rng, WALLS)
    pane = pick(rng, [(0.95, 0.88, 0.6), (0.3, 0.4, 0.5), (0.75, 0.87, 0.95)])
    canvas.box(x, top, x + width, foot, wall)
    canvas.box(x, top, x + width, top + 0.012, wall * 0.7)
    step = width / 4
    for y in np.arange(top + 0.035, foot - 0.05, 0.065):
        for window_x in x + step * (np.arange(3) + 0.65):
            glass = pane if rng.random() < 0.8 else wall * 0.6
            canvas.box(window_x, y, window_x + step * 0.6, y + 0.035, glass)


def sunset(rng: Generator, size: int) -> Picture:
    horizon, x = rng.uniform(0.5, 0.6), rng.uniform(0.2, 0.8)
    top = pick(rng, [(0.35, 0.2, 0.5), (0.5, 0.25, 0.5), (0.25, 0.25, 0.5)])
    sky = gradient(size, top, (1, 0.6, 0.25), end=horizon)
    bands = smoothstep(noise(rng, size, 3, 14, octaves=2), 0.1, 1.1)
    picture = blend(sky, pick(rng, [(0.95, 0.4, 0.35), (0.6, 0.25, 0.4)]), bands * 0.8)
    y, radius = horizon - rng.uniform(0.0, 0.14), rng.uniform(0.08, 0.13)
    picture = blend(picture, (1, 0.8, 0.4), glow(size, x, y, 0.3) * 0.7)
    picture = blend(picture, (1, 0.95, 0.65), disc(size, x, y, radius, 0.015))
    hills = ridge(rng, size, horizon, 0.04, bumps=3)
    picture = blend(picture, (0.35, 0.14, 0.25), below(size, hills - 0.03))
    ground = gradient(size, (0.3, 0.12, 0.2), (0.14, 0.07, 0.14), horizon)
    ground = ground + 0.03 * noise(rng, size, 8, 24, octaves=2)[..., None]
    picture = blend(picture, ground, below(size, horizon + 0.02))
    canvas = Canvas(size)
    colours = picks(rng, [(0.1, 0.05, 0.1), (0.25, 0.1, 0.15)], 120, 0.02)
    canvas.polygons(blades(rng, 120, horizon + 0.02, 0.08), colours)
    return canvas.on(picture)
