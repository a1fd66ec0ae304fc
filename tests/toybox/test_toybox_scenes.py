"""Scenes: there are enough, they vary, and can be told apart."""

import numpy as np
import pytest
from PIL import Image

from uno_jax.toybox import SCENES, draw_scene


def draw_pixels(name: str, seed: int, size: int = 64) -> np.ndarray:
    return draw_scene(name, np.random.default_rng(seed), size)


@pytest.mark.parametrize("name", SCENES)
def test_a_scene_fills_the_frame_and_depends_on_the_seed_alone(name):
    for size in (33, 64, 300):
        assert draw_pixels(name, 0, size).shape == (size, size, 3)
    first = draw_pixels(name, 1)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, draw_pixels(name, 1))
    assert np.abs(first.astype(int) - draw_pixels(name, 2)).mean() > 1
    assert np.isfinite(SCENES[name].draw(np.random.default_rng(0), 64)).all()


def test_a_scene_looks_the_same_at_any_size():
    """The layout is the same, not the noise: means of a 4x4 grid agree."""
    for name in ("city street", "studio", "brick wall"):
        small, large = (thumbnail(draw_pixels(name, 3, size), 4) for size in (64, 256))
        assert np.abs(small - large).mean() < 12


def thumbnail(picture: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BOX), float)


def features(picture: np.ndarray) -> np.ndarray:
    """Colours at a coarse grid, and how much each cell varies."""
    spread = np.sqrt(np.maximum(thumbnail_of_squares(picture) - thumbnail(picture, 8) ** 2, 0))
    return np.concatenate([thumbnail(picture, 8), spread], 2).ravel()


def thumbnail_of_squares(picture: np.ndarray) -> np.ndarray:
    return (picture.astype(float) ** 2).reshape(8, 8, 8, 8, 3).mean((1, 3))


def test_scenes_can_be_told_apart():
    """The nearest of ten examples a scene names the scene of new pictures."""
    names = list(SCENES)
    assert len(names) >= 16
    known = np.stack([features(draw_pixels(name, seed)) for name in names for seed in range(10)])
    asked = np.stack([features(draw_pixels(name, seed)) for name in names for seed in range(100, 104)])
    distance = np.abs(asked[:, None] - known).mean(2)
    right = distance.argmin(1) // 10 == np.arange(len(asked)) // 4
    assert right.mean() > 0.95
