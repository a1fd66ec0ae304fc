"""Scenes of sky, space and water. Each function maps (rng, size) to a picture (see raster.py)."""

import numpy as np
from numpy.random import Generator

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
    noise,
    pick,
    picks,
    ridge,
    rows,
    smoothstep,
)


def _stars(rng: Generator, size: int, count: int, lowest: float = 1.0) -> Canvas:
    canvas, radius = Canvas(size), rng.uniform(0.002, 0.008, count) * rng.uniform(0.6, 1, count)
    places = np.stack([rng.random(count), rng.random(count) * lowest, radius, radius], 1)
    canvas.ellipses(places, picks(rng, [(1, 1, 1), (1, 0.95, 0.8), (0.85, 0.9, 1)], count))
    return canvas


def night_sky(rng: Generator, size: int) -> Picture:
    horizon = rng.uniform(0.6, 0.68)
    low = pick(rng, [(0.15, 0.22, 0.45), (0.2, 0.25, 0.5)])
    picture = gradient(size, (0.03, 0.05, 0.16), low, end=horizon)
    picture = _stars(rng, size, 90, horizon).on(picture)
    x, y, radius = rng.uniform(0.12, 0.88), rng.uniform(0.1, 0.22), rng.uniform(0.06, 0.09)
    picture = blend(picture, (0.6, 0.65, 0.8), 0.5 * glow(size, x, y, 3 * radius))
    moon = disc(size, x, y, radius)
    if rng.random() < 0.6:
        moon = np.clip(moon - disc(size, x + radius * rng.choice([-0.6, 0.6]), y - 0.02, radius * 0.9), 0, 1)
    picture = blend(picture, (0.98, 0.96, 0.82), moon)
    hills = below(size, ridge(rng, size, horizon, 0.06, bumps=4, octaves=3))
    picture = blend(picture, (0.07, 0.11, 0.22), hills)
    ground = gradient(size, (0.07, 0.14, 0.16), (0.12, 0.22, 0.2), horizon)
    ground = ground * (1 + 0.15 * noise(rng, size, 9, 25)[..., None])
    return blend(picture, ground, below(size, ridge(rng, size, horizon + 0.06, 0.02)))


def clouds(rng: Generator, size: int) -> Picture:
    picture = gradient(size, pick(rng, [(0.25, 0.5, 0.9), (0.3, 0.6, 0.95)]), (0.7, 0.86, 0.98))
    canvas = Canvas(size)
    for y in np.sort(rng.uniform(0.08, 0.9, 6)):
        _cloud(rng, canvas, rng.random(), y, 0.5 + 0.8 * y)
    picture = canvas.on(picture, opacity=0.95)
    haze = smoothstep(noise(rng, size, 4, octaves=3) + rows(size) * 2.2, 1.5, 2.6)
    return blend(picture, (1, 1, 1), haze)


def _cloud(rng: Generator, canvas: Canvas, x: float, y: float, scale: float) -> None:
    """A row of balls with a flat base, shaded from below."""
    count = 9
    spread = np.linspace(-1, 1, count)
    radius = (0.03 + 0.055 * (1 - spread**2) * rng.uniform(0.7, 1.2, count)) * scale
    places = np.stack([x + 0.16 * scale * spread, y - 0.4 * radius, radius, radius], 1)
    canvas.ellipses(places + np.array([0, 0.016, 0, 0]) * scale, np.full((count, 3), (0.8, 0.86, 0.94)))
    canvas.ellipses(places, np.full((count, 3), 1.0))


def space(rng: Generator, size: int) -> Picture:
    tint = pick(rng, [(0.4, 0.1, 0.5), (0.1, 0.2, 0.55), (0.5, 0.1, 0.3), (0.1, 0.4, 0.45)])
    cloud = smoothstep(noise(rng, size, 3, octaves=3), 0.0, 1.5)
    picture = blend(flat(size, (0.02, 0.01, 0.05)), tint, cloud)
    picture = _stars(rng, size, 130).on(picture)
    for radius in rng.uniform(0.07, 0.17, rng.integers(1, 3)):
        x = rng.uniform(0.05, 0.25) if rng.random() < 0.5 else rng.uniform(0.75, 0.95)
        picture = _planet(rng, size, picture, x, rng.uniform(0.08, 0.9), radius)
    return picture


def _planet(rng: Generator, size: int, picture: Picture, x: float, y: float, radius: float) -> Picture:
    colour = pick(rng, [(0.85, 0.55, 0.3), (0.4, 0.6, 0.85), (0.8, 0.4, 0.45), (0.75, 0.7, 0.5)])
    stripes = 0.12 * np.sin((rows(size) - y) / radius * 7 + noise(rng, size, 4))
    lit = 0.25 + 0.85 * glow(size, x - radius * 0.5, y - radius * 0.5, radius * 1.3)
    picture = blend(picture, (colour + stripes[..., None]) * lit[..., None], disc(size, x, y, radius))
    if rng.random() < 0.6:
        ring, turns = Canvas(size), np.linspace(-0.17, 1.17, 24) * np.pi
        arc = np.stack([x + 1.8 * radius * np.cos(turns), y + 0.4 * radius * np.sin(turns)], 1)
        ring.line(arc, (0.88, 0.82, 0.7), 0.1 * radius)
        picture = ring.on(picture, opacity=0.85)
    return picture


def water(rng: Generator, size: int) -> Picture:
    horizon = rng.uniform(0.2, 0.32)
    sky = pick(rng, [(0.5, 0.72, 0.92), (0.75, 0.8, 0.86), (0.6, 0.78, 0.9)])
    picture = gradient(size, sky, (0.9, 0.94, 0.97), end=horizon)
    shore = pick(rng, [(0.45, 0.55, 0.62), (0.4, 0.52, 0.5)])
    picture = blend(picture, shore, below(size, ridge(rng, size, horizon - 0.03, 0.05)))
    deep = pick(rng, [(0.05, 0.25, 0.5), (0.05, 0.35, 0.5), (0.1, 0.3, 0.6)])
    depth = np.clip((rows(size) - horizon) / (1 - horizon), 0.004, 1)
    # Ripples come closer together towards the horizon.
    bend = noise(rng, size, 5, 12, octaves=2) * 1.6 + noise(rng, size, 16, 40) * 0.8
    crests = np.sin(26 * np.log(depth + 0.06) + bend * 1.5)
    sea = gradient(size, deep * 0.5 + (0.35, 0.42, 0.45), deep, horizon)
    sea = blend(sea, deep * 0.4 + (0.5, 0.58, 0.6), smoothstep(crests, 0.2, 1.0) * 0.55)
    sea = blend(sea, deep * 0.7, smoothstep(-crests, 0.3, 1.0) * 0.5)
    return blend(picture, sea, below(size, horizon))


def underwater(rng: Generator, size: int) -> Picture:
    deep = pick(rng, [(0.02, 0.25, 0.45), (0.02, 0.32, 0.42)])
    picture = gradient(size, pick(rng, [(0.35, 0.8, 0.85), (0.3, 0.7, 0.9)]), deep, end=0.8)
    source, fan = rng.uniform(0.2, 0.8), (columns(size) - 0.5) / (rows(size) + 0.5)
    rays = smoothstep(np.sin(fan * 14 + source * 20) + np.sin(fan * 33 + source * 50), 0.2, 2.0)
    picture = blend(picture, (0.8, 1, 0.95), rays * np.clip(0.55 - 0.6 * rows(size), 0, 1))
    bed = gradient(size, (0.35, 0.5, 0.45), pick(rng, [(0.7, 0.7, 0.5), (0.6, 0.65, 0.5)]), 0.7)
    bed = bed + 0.06 * noise(rng, size, 5, 18, octaves=2)[..., None]
    picture = blend(picture, bed, below(size, ridge(rng, size, rng.uniform(0.7, 0.76), 0.03, bumps=3)))
    canvas = Canvas(size)
    for x in np.concatenate([rng.uniform(0, 0.2, 3), rng.uniform(0.8, 1, 3), rng.random(2)]):
        _weed(rng, canvas, x, rng.uniform(0.76, 0.9), rng.uniform(0.15, 0.4))
    picture = canvas.on(picture)
    return _bubbles(rng, size, 16).on(picture, opacity=0.7)


def _weed(rng: Generator, canvas: Canvas, x: float, foot: float, height: float) -> None:
    t = np.linspace(0, 1, 9)
    sway = x + 0.025 * np.sin(t * 8 + rng.uniform(0, 6)) * t**0.5
    half, y = 0.014 * (1 - t) + 0.002, foot - height * t
    outline = np.concatenate([np.stack([sway - half, y], 1), np.stack([sway + half, y], 1)[::-1]])
    canvas.polygon(outline, pick(rng, [(0.1, 0.45, 0.25), (0.25, 0.5, 0.2), (0.5, 0.25, 0.3)]))


def _bubbles(rng: Generator, size: int, count: int) -> Canvas:
    canvas, radius = Canvas(size), rng.uniform(0.006, 0.02, count)
    places = np.stack([rng.random(count), rng.uniform(0, 0.8, count), radius, radius], 1)
    canvas.ellipses(places, np.full((count, 3), (0.85, 0.97, 1)))
    canvas.ellipses(places * [1, 1, 0.75, 0.75], np.full((count, 3), (0.35, 0.7, 0.8)))
    canvas.ellipses(places * [1, 1, 0.3, 0.3] - places[:, 2:3] * [0.35, 0.35, 0, 0], np.ones((count, 3)))
    return canvas
