"""Subjects that look as none of the atlas does."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uno_jax.toybox.device.looks import Looks, draw_looks, dress

COUNT = 50
SUBJECTS = jnp.arange(400).reshape(200, 2) % COUNT
draw = jax.jit(partial(draw_looks, count=COUNT))


@pytest.fixture(scope="module")
def two():
    """Premultiplied RGBA of two subjects."""
    rng = np.random.default_rng(0)
    alpha = rng.uniform(0, 1, (2, 1, 8, 8)) * (rng.uniform(0, 1, (2, 1, 8, 8)) > 0.3)
    return jnp.concatenate([alpha * rng.uniform(0, 1, (2, 3, 8, 8)), alpha], axis=1)


def test_without_invention_a_subject_is_itself(two):
    looks = draw(jax.random.key(0), SUBJECTS, invented=0.0)
    np.testing.assert_array_equal(looks.texture, SUBJECTS)
    np.testing.assert_allclose(dress(two[0], two[0], looks.colour[0, 0]), two[0], atol=1e-6)


def test_the_share_that_is_invented():
    def new(looks: Looks):
        changed = jnp.any(looks.colour != jnp.eye(3, 4), axis=(2, 3))
        return np.asarray(changed), np.asarray(looks.texture != SUBJECTS)

    recoloured, textured = new(draw(jax.random.key(1), SUBJECTS, invented=jnp.float32(0.5)))
    assert 0.4 < recoloured.mean() < 0.6 and 0.2 < textured.mean() < 0.4
    assert not np.any(textured & ~recoloured)
    rows = jnp.where(jnp.arange(200) < 100, 1.0, 0.0)[:, None]
    recoloured, _ = new(draw(jax.random.key(1), SUBJECTS, invented=rows))
    assert recoloured[:100].all() and not recoloured[100:].any()


def test_an_invented_subject_keeps_its_outline_and_takes_the_others_colours(two):
    own, other = two
    dressed = dress(own, other, jnp.eye(3, 4))
    np.testing.assert_array_equal(dressed[3], own[3])
    opaque = other.at[:3].divide(jnp.maximum(other[3], 1e-9)).at[3].set(1.0)
    np.testing.assert_allclose(dress(own, opaque, jnp.eye(3, 4))[:3], own[3] * opaque[:3], rtol=1e-5)


def test_colours_stay_premultiplied(two):
    looks = draw(jax.random.key(2), SUBJECTS, invented=1.0)
    for colour in looks.colour[:20, 0]:
        dressed = np.asarray(dress(two[0], two[1], colour))
        assert dressed.min() >= 0 and np.all(dressed[:3] <= dressed[3] + 1e-6)
