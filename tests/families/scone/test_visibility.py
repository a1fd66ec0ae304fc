"""Who sees whom in a row of several samples, from four integers a token."""

import numpy as np

from uno_jax.families.scone.splits import HIDDEN, LOOKS, token_rules, visible
from uno_jax.networks.splits import MARKS, Split, seen_spans, starts

TWO_TURNS = (
    Split("vae", 2, 1),
    Split("vit", 1, 2),
    Split("text", 1, 3),
    Split("target", 1, 2),
    Split("vae", 1, 2),
    Split("text", 1, 2),
    Split("target", 2, 2),
)
ANSWERED = (Split("vit", 1, 1), Split("text", 1, 2), Split("text", 1, 3))


def by_spans(splits):
    """The rule that the network attends by."""
    length = sum(split.length for split in splits)
    seen = np.zeros((length, length), bool)
    for number, (start, split) in enumerate(starts(splits)):
        for first, end in seen_spans(splits, number):
            seen[start : start + split.length, first:end] = True
        if split.kind == "text":
            seen[start : start + split.length, start : start + split.length] = np.tri(split.length)
    return seen


def test_a_row_is_the_attention_of_each_sample():
    parts = [by_spans(splits) for splits in (TWO_TURNS, ANSWERED)]
    first = len(parts[0])
    expected = np.zeros((first + len(parts[1]),) * 2, bool)
    expected[:first, :first], expected[first:, first:] = parts
    assert np.array_equal(visible(token_rules([TWO_TURNS, ANSWERED])), expected)


def test_what_the_bridge_hides_is_hidden_from_the_drawn_tokens_only():
    rules = token_rules([TWO_TURNS])
    before = visible(rules)
    rules[MARKS, 3] = HIDDEN  # the first reference's first latent token
    after = visible(rules)
    changed = np.argwhere(before != after)
    targets = np.flatnonzero(rules[:, 3] == LOOKS)
    assert len(targets) == 2 + 4
    assert changed.tolist() == [[row, MARKS] for row in targets]
