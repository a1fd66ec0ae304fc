"""Classifier-free guidance: 1 is the model's own prediction, 0 the plain one, and more goes on in a line."""

import numpy as np
import pytest
from tiny_model import random_params

from uno_jax.config import PRESETS
from uno_jax.denoise import denoise
from uno_jax.request import make_settings
from uno_jax.types import Conditioning

MMDIT = PRESETS["tiny"].mmdit


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.fixture(scope="module")
def tokens():
    """Tokens after one step by a conditioning, a plain one and the factor."""
    variables, noise = {"params": random_params(MMDIT, 1)}, draw(5, 2, 4, 4, 16)

    def of(conditioning, plain=None, true_cfg=1.0):
        times = np.array([1.0, 0.6], np.float32)
        return np.asarray(
            denoise(MMDIT, variables, noise, conditioning, times, 1.0, plain=plain, true_cfg=true_cfg)
        )

    return of


def test_the_velocity_lies_on_the_line_through_both_predictions(tokens):
    txt, vec, refs = (
        draw(1, 2, 3, MMDIT.context_in_dim),
        draw(2, 2, MMDIT.vec_in_dim),
        (draw(3, 2, 2, 4, 16),),
    )
    asked, plain = Conditioning(txt, vec, refs), Conditioning(0 * txt, 0 * vec)
    one, zero, three = (tokens(asked, plain, factor) for factor in (1.0, 0.0, 3.0))
    # Rounding of float32, on values of about 1; the two predictions differ by far more.
    np.testing.assert_allclose(one, tokens(asked), atol=1e-6)
    np.testing.assert_allclose(zero, tokens(plain), atol=1e-6)
    np.testing.assert_allclose(three, zero + 3 * (one - zero), atol=1e-5)
    assert abs(one - zero).max() > 0.01


def test_the_factor_is_the_models_own_unless_given():
    assert make_settings(PRESETS["flux_dev"].mmdit).true_cfg == make_settings(MMDIT).true_cfg == 1
    assert make_settings(PRESETS["small"].mmdit).true_cfg == 3
    assert make_settings(PRESETS["small"].mmdit, true_cfg=2.0).true_cfg == 2
    with pytest.raises(ValueError, match="true_cfg must be a finite number of 0 or more, got -1"):
        make_settings(MMDIT, true_cfg=-1.0)
