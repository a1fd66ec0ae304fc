"""Packing and UnoPE against the recorded ids, and the properties that its variants and scales must have."""

import jax.numpy as jnp
import numpy as np
import pytest

from uno_jax.families.latents import pack, token_size, unpack
from uno_jax.families.uno.config import UnoPE
from uno_jax.families.uno.positions import position_ids, reference_offsets, shifted_ids

TARGET = (4, 6)
REFERENCES = [(3, 3), (2, 4), (5, 2), (2, 2)]


@pytest.fixture(scope="module")
def golden():
    return np.load("tests/golden/uno_a/golden.npz")


def test_ids_equal_the_reference(golden):
    for key in (key for key in golden if key.startswith("ids.")):
        count, variant = int(key[len("ids.ref")]), key[-1]
        ids = position_ids(golden["txt"].shape[1], TARGET, REFERENCES[:count], UnoPE(variant))
        np.testing.assert_array_equal(ids, golden[key], err_msg=key)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0, 3.0])
def test_the_scale_multiplies_every_offset(scale):
    plain = np.array(reference_offsets(TARGET, REFERENCES, UnoPE("d")))
    scaled = np.array(reference_offsets(TARGET, REFERENCES, UnoPE("d", scale)))
    np.testing.assert_array_equal(scaled, scale * plain)


def test_diagonal_references_share_no_row_or_column():
    ids = position_ids(0, TARGET, REFERENCES)
    start, seen_rows, seen_cols = 0, set(), set()
    for h, w in [TARGET, *REFERENCES]:
        part = ids[start : start + h * w]
        rows, cols = set(part[:, 1]), set(part[:, 2])
        assert not rows & seen_rows and not cols & seen_cols
        seen_rows, seen_cols, start = seen_rows | rows, seen_cols | cols, start + h * w


def test_half_an_offset_keeps_fractions():
    assert reference_offsets((5, 3), [(2, 2)], UnoPE("d", 0.5)) == [(2.5, 1.5)]


def test_seven_references_of_many_sizes():
    sizes = [(n, n + 1) for n in range(1, 8)]
    ids = position_ids(3, TARGET, sizes, UnoPE("w"))
    assert ids.shape == (3 + 24 + sum(h * w for h, w in sizes), 3)
    assert not ids[:3].any() and not ids[:, 0].any()


def test_unpack_inverts_pack_and_channels_are_outermost():
    latent = np.arange(2 * 4 * 6 * 3, dtype=np.float32).reshape(2, 4, 6, 3)
    tokens = pack(latent)
    assert tokens.shape == (2, 6, 12)
    np.testing.assert_array_equal(tokens[0, 0, :4], latent[0, :2, :2, 0].ravel())
    np.testing.assert_array_equal(unpack(tokens, (2, 3)), latent)


@pytest.mark.parametrize(("height", "width"), [(0, 16), (24, 16), (16, 100), (-16, 16)])
def test_sides_must_be_whole_tokens(height, width):
    with pytest.raises(ValueError, match="multiples of 16"):
        token_size(height, width)


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_bad_offset_scales_are_refused(scale):
    with pytest.raises(ValueError, match="offset_scale"):
        UnoPE("d", scale)


def test_a_shift_by_unopes_offset_is_unope():
    without, target = position_ids(5, (4, 6), [(3, 2)], UnoPE("o")), 5 + 24
    moved = shifted_ids(without, target, jnp.array([[4.0, 6.0], [0.0, 0.0]]))
    np.testing.assert_array_equal(moved[0], position_ids(5, (4, 6), [(3, 2)]))
    np.testing.assert_array_equal(moved[1], without)
