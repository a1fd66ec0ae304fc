"""The mixture of transformers: the understanding expert is Qwen3's decoder, and the rules of splits hold."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.tiny_scone import MOT, random_params, sequence
from uno_jax.networks.mot import MoT, grid_places, sincos_places
from uno_jax.networks.splits import Layout, Split, joined, parted, seen_spans


@pytest.fixture(scope="module")
def params():
    return random_params()


def run(params, inputs, layout):
    return jax.jit(lambda p, i: MoT(MOT).apply({"params": p}, i, layout))(params, inputs)


@pytest.mark.slow
def test_understanding_a_text_is_qwen3(params):
    """transformers' Qwen3 with biases on q, k and v has the layers of BAGEL's understanding expert."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from benchmarks.scone.qwen3 import understanding_expert

    theirs = understanding_expert(MOT, params)
    splits = (Split("text", 1, 9),)
    inputs = sequence(splits)
    with torch.no_grad():
        expected = theirs(torch.tensor(np.array(inputs.text[0]))).logits.numpy()
    und, _, _ = run(params, inputs, Layout(splits))
    found = MoT(MOT).apply({"params": params}, und, method="logits")
    assert np.abs(found - expected).max() < 2e-5 * np.abs(expected).max()


SPLITS = (
    Split("vae", 2, 2),
    Split("vit", 1, 3),
    Split("text", 1, 4),
    Split("target", 2, 1),
    Split("vit", 2, 1),
    Split("text", 1, 3),
)


def test_streams_and_sequence():
    rng = np.random.default_rng(0)
    counts = [sum(getattr(split, name) for split in SPLITS) for name in ("understood", "generated")]
    streams = [rng.normal(size=(1, count, 3)).astype(np.float32) for count in counts]
    whole = joined(*streams, SPLITS)
    assert whole.shape[1] == sum(split.length for split in SPLITS)
    for part, again in zip(streams, parted(whole, SPLITS), strict=True):
        assert np.array_equal(part, again)


def test_targets_are_seen_by_themselves_only():
    lengths = np.cumsum([0, *(split.length for split in SPLITS)]).tolist()
    assert seen_spans(SPLITS, 3) == [(0, lengths[4])]
    assert seen_spans(SPLITS, 5) == [(0, lengths[3]), (lengths[4], lengths[6])]


@pytest.mark.slow
def test_what_changes_when_a_target_changes(params):
    """Only its own tokens: those after it are computed as if it were absent."""
    inputs = sequence(SPLITS)
    one, two = inputs.latents[0], inputs.latents[1] + 1.0
    before = run(params, inputs, Layout(SPLITS))
    after = run(params, inputs._replace(latents=(one, two)), Layout(SPLITS))
    changed = joined(*(np.abs(a - b) for a, b in zip(before[:2], after[:2], strict=True)), SPLITS)[0].max(-1)
    start = sum(split.length for split in SPLITS[:3])
    end = start + SPLITS[3].length
    assert changed[:start].max() == 0 and changed[end:].max() == 0 and changed[start:end].min() > 0


def test_positions_of_places():
    """Half of the width is the column's, the other the row's (a hand-made value of each)."""
    table = sincos_places(grid_places(2, 3), 4, 16)
    assert table.shape == (6, 16)
    frequencies = 10_000.0 ** (-np.arange(4) / 4)
    assert table[5, :4] == pytest.approx(np.sin(2 * frequencies), abs=1e-6)
    assert table[5, 12:] == pytest.approx(np.cos(1 * frequencies), abs=1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_kv_heads": 3}, "num_heads 4 is not a multiple of num_kv_heads 3"),
        ({"bridge_layer": 9}, "bridge_layer 9 is outside the model's 4 layers"),
        ({"bridge_masked": (1, 2)}, "bridge_masked must be two layers after bridge_layer 1"),
        ({"head_dim": 15}, "head_dim must be even"),
        ({"bos_id": 99}, "bos_id must be between 0 and 63"),
    ],
)
def test_impossible_configs(changed, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(MOT, **changed)
