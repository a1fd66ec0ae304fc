"""Pictures encoded and decoded in groups: the same pictures, whatever the size of a group."""

import numpy as np
import pytest

from tests.tiny_model import TINY, random_params
from uno_jax.families import latents
from uno_jax.families.model import Model
from uno_jax.support.bounded_jit import bounded_jit


@pytest.fixture(scope="module")
def model():
    return Model(TINY, {"vae": random_params(TINY.vae, 1)})


@pytest.mark.parametrize("at_once", [1, 2 * 32 * 48, 4 * 32 * 48])
def test_pictures_do_not_depend_on_the_group_they_are_computed_in(model, monkeypatch, at_once):
    pictures = np.random.default_rng(0).uniform(-1, 1, (5, 32, 48, 3)).astype(np.float32)
    latent = latents.encode_image(model, pictures)
    decoded = latents.decode_image(model, latent)
    monkeypatch.setattr(latents, "AT_ONCE", at_once)
    for function, given, expected in (
        (latents.encode_image, pictures, latent),
        (latents.decode_image, latent, decoded),
    ):
        grouped = bounded_jit(function.__wrapped__)(model, given)
        assert grouped.shape == expected.shape
        np.testing.assert_allclose(grouped, expected, atol=2e-5 * np.abs(expected).max())


def test_a_group_has_at_most_the_pixels_that_a_chip_takes_at_once():
    seen = []

    def function(group):
        seen.append(group.shape[0])
        return group

    pictures = np.arange(7 * 4 * 6 * 3, dtype=np.float32).reshape(7, 4, 6, 3)
    for cells in (7 * 24, 6 * 24, 3 * 24, 23):
        np.testing.assert_array_equal(latents.in_groups(function, pictures, cells), pictures)
    assert seen == [7, 4, 3, 1]  # 7 in groups of 6 would be computed as 12
