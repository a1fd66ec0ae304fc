"""Captions made on the device are the grammar's, and their tokens those of the tokenizers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uno_jax.tokenizers import clip_tokens, t5_tokens
from uno_jax.toybox import load_subjects
from uno_jax.toybox.captions import caption, diptych_caption
from uno_jax.toybox.compose import Composite
from uno_jax.toybox.device.caption_tokens import (
    CaptionTables,
    draw_captions,
    draw_panel_captions,
    make_caption_tables,
    to_tokens,
    what_is_said,
)
from uno_jax.toybox.device.place import Placements
from uno_jax.toybox.device.prompts import NO_PICTURE, placement
from uno_jax.toybox.samples import SCENE_NAMES

MANY, LENGTH = 1600, 24  # some lines do not fit
NAMES = [subject.name for subject in load_subjects(split="train")]


@pytest.fixture(scope="module")
def tables() -> CaptionTables:
    return make_caption_tables(NAMES)


def lines_of(pieces) -> list[str]:
    said = what_is_said(NAMES).pieces()
    return [" ".join(said[index] for index in row if index) for row in np.asarray(pieces)]


def drawn(count: int, batch: int = MANY):
    """Random subjects, scenes and placements."""
    rng = np.random.default_rng(count)
    subjects = jnp.asarray(rng.integers(0, len(NAMES), (batch, count)))
    x, extent = (jnp.asarray(rng.uniform(*limits, (batch, count))) for limits in ((0, 1), (0.4, 0.8)))
    standing = Placements(x, x, extent, x, x > 2, jnp.stack([x, x], -1))
    return subjects, jnp.asarray(rng.integers(0, len(SCENE_NAMES), batch)), standing


@jax.jit
def say(key, tables, shown):
    pieces = draw_captions(key, tables, *shown)
    return pieces, to_tokens(tables, pieces, LENGTH)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_captions_are_the_grammars_and_their_tokens_the_tokenizers(tables, count):
    shown = drawn(count)
    pieces, tokens = say(jax.random.key(count), tables, shown)
    lines = lines_of(pieces)
    np.testing.assert_array_equal(tokens.t5, t5_tokens(lines, LENGTH))
    np.testing.assert_array_equal(tokens.clip, clip_tokens(lines))
    # One sample again and again: every line that the grammar has for it, each as often.
    again = jax.tree.map(lambda each: jnp.repeat(each[:1], MANY, axis=0), shown)
    made = lines_of(say(jax.random.key(0), tables, again)[0])
    names = [NAMES[index] for index in shown[0][0]]
    here = tuple(placement(shown[2], 0, slot) for slot in range(count))
    scene = Composite(NO_PICTURE, SCENE_NAMES[int(shown[1][0])], here, ())
    told = [caption(np.random.default_rng(seed), names, scene) for seed in range(MANY)]
    assert set(made) == set(told)
    for line in set(made):  # five standard errors of the difference
        assert abs(made.count(line) - told.count(line)) < 5 * np.sqrt(2 * told.count(line))


def test_panels_are_described_as_diptychs_are(tables):
    subjects, scenes, _ = drawn(2)
    two = jnp.arange(MANY) % 2 == 0
    both = jnp.stack([scenes, scenes[::-1]], 1)
    beside, above = jax.jit(draw_panel_captions)(jax.random.key(0), tables, subjects, two, both)
    lines = lines_of(beside)
    for row in range(20):
        names = [NAMES[index] for index in subjects[row]][: 2 if two[row] else 1]
        pair = (SCENE_NAMES[int(both[row, 0])], SCENE_NAMES[int(both[row, 1])])
        assert lines[row] in {diptych_caption(np.random.default_rng(s), names, pair) for s in range(60)}
    assert all(" one above the other: top " in line for line in lines_of(above))


def test_nothing_said_is_the_empty_prompt(tables):
    tokens = to_tokens(tables, jnp.zeros((2, 8), jnp.int32), 6)
    np.testing.assert_array_equal(tokens.t5, t5_tokens(["", ""], 6))
    np.testing.assert_array_equal(tokens.clip, clip_tokens(["", ""]))


def test_size_and_side_are_said_where_they_are_so(tables):
    values = (jnp.full((MANY, 1), value) for value in (0.2, 0.9, 0.7, 0.0, 0.0))
    standing = Placements(*values, jnp.zeros((MANY, 1, 2)))
    lines = lines_of(say(jax.random.key(3), tables, (*drawn(1)[:2], standing))[0])
    assert not any("on the right," in line for line in lines)
    assert 0.25 < np.mean(["big" in line.split() for line in lines]) < 0.35
    assert 0.3 < np.mean(["on the left," in line for line in lines]) < 0.4
