"""Decoding in tiles: exact for a decoder that looks at single cells, close and seamless for the VAE."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_model import TINY, random_params
from uno_jax.families import latents
from uno_jax.families.latents import decode_image, encode_image
from uno_jax.families.model import Model
from uno_jax.families.uno.config import UnoPE
from uno_jax.families.uno.settings import Settings
from uno_jax.networks.vae import decode_tiled
from uno_jax.sampling.generate import sample_batch
from uno_jax.sampling.request import Request
from uno_jax.support.images import read_image, to_array

PHOTO = Path(__file__).parents[1] / "assets" / "photos" / "chelsea.jpg"
FACTOR = 4


def cell_by_cell(latent):
    """Every latent cell becomes FACTOR x FACTOR pixels, whatever its neighbours."""
    return latent[..., :3].repeat(FACTOR, axis=1).repeat(FACTOR, axis=2)


@pytest.mark.parametrize("shape", [(8, 8), (20, 9), (7, 31), (3, 5)])
@pytest.mark.parametrize(("tile", "overlap"), [(8, 1), (8, 3), (8, 7)])
def test_tiles_cover_the_picture_in_one_shape(shape, tile, overlap):
    seen = []

    def decode(latent):
        seen.append(latent.shape)
        return cell_by_cell(latent)

    latent = np.random.default_rng(0).standard_normal((2, *shape, 16)).astype(np.float32)
    tiled = decode_tiled(decode, latent, tile, overlap)
    np.testing.assert_allclose(tiled, cell_by_cell(latent), atol=1e-6)
    assert set(seen) == {(2, min(tile, shape[0]), min(tile, shape[1]), 16)}


def test_tiles_that_disagree_are_blended_linearly():
    numbers = iter(range(10))

    def decode(latent):
        return np.full((1, latent.shape[1] * FACTOR, latent.shape[2] * FACTOR, 3), next(numbers), np.float32)

    tiled = decode_tiled(decode, np.zeros((1, 8, 14, 16)), tile=8, overlap=2)
    row = tiled[0, 0, :, 0]
    assert row[0] == 0 and row[-1] == 1 and np.all(tiled == row[:, None])
    assert np.ptp(np.diff(row[6 * FACTOR : 8 * FACTOR])) < 1e-6, "a straight line across the overlap"
    assert np.abs(np.diff(row)).max() < 1.01 / (2 * FACTOR)


@pytest.mark.parametrize("overlap", [0, 8, 9])
def test_an_overlap_that_leaves_no_step_is_refused(overlap):
    with pytest.raises(ValueError, match="overlap must lie between 0 and the tile's 8"):
        decode_tiled(cell_by_cell, np.zeros((1, 9, 9, 16)), 8, overlap)


@pytest.mark.slow
def test_a_photo_decoded_in_tiles_has_no_seams():
    model = Model(TINY, {"vae": random_params(TINY.vae, 1)})
    photo = to_array(read_image(PHOTO).resize((192, 128)))[None]
    latent = encode_image(model, photo)
    decode = partial(decode_image, model)
    whole, tiled = np.asarray(decode(latent)), decode_tiled(decode, latent, tile=12, overlap=6)
    # A random autoencoder's norms and attention see a tile alone: close (measured 0.88), not equal.
    assert np.corrcoef(whole.ravel(), tiled.ravel())[0, 1] > 0.8
    steepest = [np.abs(np.diff(picture, axis=2)).mean((0, 1, 3)).max() for picture in (whole, tiled)]
    assert steepest[1] <= steepest[0]


@pytest.mark.slow
def test_large_pictures_are_sampled_with_tiles(monkeypatch):
    model = Model(
        TINY, {kind: random_params(getattr(TINY, kind), 0) for kind in ("mmdit", "vae", "t5", "clip")}
    )
    shapes = []

    def decode(model, latent):
        shapes.append(latent.shape)
        return decode_image(model, latent)

    monkeypatch.setattr(latents, "decode_image", decode)
    request = Request("a dog", (), 96, 64, 0)
    (picture,) = sample_batch(model, [request], Settings(1, 4.0, UnoPE(), tile=64))
    assert picture.size == (96, 64)
    assert set(shapes) == {(1, 8, 8, 16)} and len(shapes) > 1
