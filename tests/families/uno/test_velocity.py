"""Classifier-free guidance is the line through two predictions; a given left half is seen and kept."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny_model import random_params
from uno_jax.families.latents import unpack
from uno_jax.families.model import Model
from uno_jax.families.uno.config import PRESETS
from uno_jax.families.uno.denoising import Contrast, Left, denoise
from uno_jax.families.uno.settings import make_settings
from uno_jax.families.uno.types import Conditioning

TINY = PRESETS["tiny"]
MMDIT = TINY.mmdit


def draw_normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def tiny_model() -> Model:
    return Model(TINY, {"mmdit": random_params(MMDIT, 1)})


@pytest.fixture(scope="module")
def tokens():
    """Tokens after one step with a conditioning and a contrast to a plain one."""
    model, noise = tiny_model(), draw_normal(5, 2, 4, 4, 16)

    def of(conditioning, contrast=None):
        times = np.array([1.0, 0.6], np.float32)
        return np.asarray(denoise(model, noise, conditioning, times, contrast))

    return of


@pytest.mark.slow
def test_the_velocity_lies_on_the_line_through_both_predictions(tokens):
    txt, vec, refs = (
        draw_normal(1, 2, 3, MMDIT.context_in_dim),
        draw_normal(2, 2, MMDIT.vec_in_dim),
        (draw_normal(3, 2, 2, 4, 16),),
    )
    strength = jnp.ones(2)
    asked, plain = Conditioning(txt, vec, refs, strength), Conditioning(0 * txt, 0 * vec, (), strength)
    one, zero, three = (tokens(asked, Contrast(plain, (factor,))) for factor in (1.0, 0.0, 3.0))
    # Rounding of float32, on values of about 1; the two predictions differ by far more.
    np.testing.assert_allclose(one, tokens(asked), atol=1e-6)
    np.testing.assert_allclose(zero, tokens(plain), atol=1e-6)
    np.testing.assert_allclose(three, zero + 3 * (one - zero), atol=1e-5)
    assert abs(one - zero).max() > 0.01


@pytest.mark.slow
def test_prompt_and_references_have_scales_of_their_own(tokens):
    txt, vec = draw_normal(1, 2, 3, MMDIT.context_in_dim), draw_normal(2, 2, MMDIT.vec_in_dim)
    plain = Conditioning(0 * txt, 0 * vec, (), jnp.ones(2))
    text = plain._replace(txt=txt, vec=vec)
    asked = text._replace(refs=(draw_normal(3, 2, 2, 4, 16),))
    both = jax.tree.map(lambda *parts: jnp.concatenate(parts), plain, text)
    none, prompt, all_given = (tokens(each) for each in (plain, text, asked))
    found = tokens(asked, Contrast(both, (2.0, 5.0)))
    # Rounding of float32, five times on values of about 1.
    np.testing.assert_allclose(found, none + 2 * (prompt - none) + 5 * (all_given - prompt), atol=2e-5)


def alone() -> Conditioning:
    """One prompt without references."""
    txt, vec = draw_normal(1, 1, 3, MMDIT.context_in_dim), draw_normal(2, 1, MMDIT.vec_in_dim)
    return Conditioning(txt, vec, guidance=jnp.ones(1))


def test_the_left_half_is_kept_and_seen_by_the_right():
    times = np.array([1.0, 0.7, 0.0], np.float32)
    conditioning = alone()
    noise, left, other = draw_normal(5, 1, 4, 8, 16), draw_normal(6, 1, 4, 4, 16), draw_normal(7, 1, 4, 4, 16)
    make = jax.jit(partial(denoise, tiny_model(), schedule=times))

    def halves(noise, left):
        latent = unpack(make(noise=noise, conditioning=conditioning, given=Left(left)), (2, 4))
        return np.split(np.asarray(latent), 2, axis=2)

    kept, made = halves(noise, left)
    np.testing.assert_array_equal(kept, left)
    assert abs(halves(noise, other)[1] - made).max() > 0.01
    # Noise under the given half is never seen.
    np.testing.assert_array_equal(
        halves(noise + np.pad(left, [(0, 0), (0, 0), (0, 4), (0, 0)]), left)[1], made
    )


def test_plain_predictions_see_the_left_half_as_noisy_as_the_rest():
    """At t = 1 that is only noise, whatever is given."""
    times, plain = np.array([1.0, 0.5], np.float32), alone()
    noise, left = draw_normal(5, 1, 4, 8, 16), draw_normal(6, 1, 4, 4, 16)
    of = jax.jit(partial(denoise, tiny_model(), noise, plain, times, Contrast(plain, (0.0,))))
    right = [
        np.split(np.asarray(unpack(of(given=Left(each)), (2, 4))), 2, axis=2)[1] for each in (left, -left)
    ]
    np.testing.assert_array_equal(*right)


def test_the_factor_is_the_models_own_unless_given():
    assert make_settings(PRESETS["flux_dev"]).true_cfg == make_settings(TINY).true_cfg == 1
    assert make_settings(PRESETS["small"]).true_cfg == 3
    assert make_settings(PRESETS["small"], true_cfg=2.0).true_cfg == 2
    with pytest.raises(ValueError, match="true_cfg must be a finite number of 0 or more, got -1"):
        make_settings(TINY, true_cfg=-1.0)
    with pytest.raises(ValueError, match="image_cfg must be a finite number of 0 or more, got '6'"):
        make_settings(TINY, image_cfg="6")


@pytest.mark.parametrize(
    ("model", "given", "away"),
    [
        ("small", {}, {"negative": 3, "prompt": 6}),
        ("small", {"true_cfg": 2.0}, {"negative": 2}),
        ("small", {"image_cfg": 5.0}, {"negative": 3, "prompt": 5}),
        ("small", {"image_cfg": 3.0}, {"negative": 3}),
        ("small", {"image_cfg": 1.0}, {"negative": 3, "prompt": 1}),
        ("flux_dev", {}, {}),
        ("flux_dev", {"image_cfg": 2.0}, {"prompt": 2}),
    ],
)
def test_the_scale_of_references_is_that_of_the_prompt_unless_given(model, given, away):
    settings = make_settings(PRESETS[model], **given)
    assert settings.away_from(1) == away and list(settings.away_from(1)) == list(away)
    assert settings.away_from(0) == {name: scale for name, scale in away.items() if name == "negative"}
    record = settings.record(128, 128)
    options = {key: record[key] for key in ("true_cfg", "image_cfg") if key in record}
    assert make_settings(PRESETS[model], **options).away_from(1) == away
