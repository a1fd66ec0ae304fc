"""Batches for the small model's training: what they show, where their panels lie, and how that widens."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uno_jax.small_training.parts import PANELS
from uno_jax.small_training.samples import Curriculum, draw_pairs, draw_panels
from uno_jax.small_training.worlds import Inputs
from uno_jax.tokenizers import t5_tokens
from uno_jax.toybox import load_subjects
from uno_jax.toybox.device import draw_bank, make_world
from uno_jax.toybox.device.caption_tokens import make_caption_tables

pytestmark = pytest.mark.slow
SIZE, SIDE, SIZES = 64, 4, (24, 4, 8)  # pixels and tokens of a panel's side
FIXED = Curriculum()


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    subjects = load_subjects(split="train")[::9]
    world = make_world(draw_bank(1, SIZE * 160 // 128), subjects, SIZE)
    return Inputs(world, make_caption_tables(world.atlas.names), {})


@pytest.fixture(scope="module")
def draw(inputs):
    @partial(jax.jit, static_argnums=1)
    def program(key, curriculum, progress):
        return draw_panels(key, inputs, SIZES, (48, SIDE), (curriculum, progress))

    curricula = {"panels": PANELS, "fixed": FIXED}
    return lambda name, progress: program(jax.random.key(1), curricula[name], jnp.float32(progress))


def test_shapes_and_range(draw):
    panels, alone = draw("panels", 0.0)
    assert panels.first.shape == panels.second.shape == (28, SIZE, SIZE, 3)
    assert panels.caption.t5.shape == (28, 48) and panels.shift.shape == (28, 2)
    assert alone.target.shape == (8, SIZE, SIZE, 3) and alone.refs == ()
    assert jnp.abs(panels.first).max() <= 1 + 1e-6


def test_fixed_panels_lie_diagonally_and_diptychs_side_by_side(draw):
    panels, _ = draw("fixed", 0.5)
    np.testing.assert_array_equal(panels.shift[:24], np.full((24, 2), 4))  # tokens of 16 pixels
    np.testing.assert_array_equal(panels.shift[24:], np.tile([0, 4], (4, 1)))


def test_at_first_copies_then_pictures_of_their_own(draw):
    def twice(panels) -> float:
        return float(jnp.mean(jnp.all(panels.first[:24] == panels.second[:24], axis=(1, 2, 3))))

    assert twice(draw("panels", 0.0)[0]) > 0.1
    assert twice(draw("panels", 1.0)[0]) == 0


def test_in_the_end_panels_lie_in_every_way_with_gaps(draw):
    shift = np.asarray(draw("panels", 1.0)[0].shift[:24])
    assert set(map(tuple, np.sign(shift))) >= {(0, 1), (0, -1), (1, 1)}
    assert np.abs(shift).max() > 8 and np.abs(shift).max() <= 4 + 24


def test_tokens_are_covered_where_the_panels_differ_from_their_scenes(draw):
    covered = np.asarray(draw("panels", 1.0)[0].covered)
    assert covered.shape == (28, 2 * SIDE**2) and covered.min() == 0
    assert np.all(covered.reshape(28, 2, -1).max(-1) > 0.2)  # a subject in every panel, thin ones too
    assert 0.1 < covered.mean() < 0.5


def test_some_prompts_are_empty(draw):
    panels, alone = draw("panels", 1.0)
    tokens = np.concatenate([panels.caption.t5, alone.txt])
    empty = np.all(tokens == t5_tokens([""], 48), axis=1)
    assert 0 < empty.mean() < 0.4


def test_pairs_have_a_reference_for_each_subject(inputs):
    batch = jax.eval_shape(lambda key: draw_pairs(key, inputs, (2, 3), 48, jnp.float32(1)), jax.random.key(0))
    assert [ref.shape for ref in batch.refs] == 3 * [(2, SIZE, SIZE, 3)] and batch.txt.shape == (2, 48)
