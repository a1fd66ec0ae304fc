"""Full-size shapes without arrays, logical axes everywhere, and errors of the MM-DiT."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from uno_jax.families.uno.config import PRESETS, LoraConfig, ModelConfig
from uno_jax.families.uno.lora import abstract_lora
from uno_jax.networks import layers
from uno_jax.networks.layers import apply_rope, rope_table, seeded_features
from uno_jax.networks.mmdit import MMDiTInputs
from uno_jax.networks.mmdit_config import MMDiTConfig
from uno_jax.networks.registry import NETWORKS, abstract_params, apply
from uno_jax.support.settings import from_dict, to_dict
from uno_jax.support.trees import count

TINY = PRESETS["tiny"]


def test_flux_dev_has_its_published_number_of_parameters():
    shapes, _ = abstract_params(PRESETS["flux_dev"].mmdit)
    assert count(shapes) == 11_901_408_320  # as in flux1-dev.safetensors
    schnell, _ = abstract_params(PRESETS["flux_schnell"].mmdit)
    assert count(shapes) - count(schnell) == 256 * 3072 + 3072 + 3072 * 3072 + 3072  # guidance_in
    lora, _ = abstract_lora(PRESETS["flux_dev"].mmdit, LoraConfig())
    assert count(lora) == 956_301_312


@pytest.mark.parametrize("kind", ["mmdit", "vae", "t5", "clip"])
def test_every_parameter_has_an_axis_name_a_dimension(kind):
    shapes, axes = abstract_params(getattr(TINY, kind))
    is_spec = lambda x: isinstance(x, PartitionSpec)  # noqa: E731
    specs = jax.tree.leaves(axes, is_leaf=is_spec)
    assert [len(spec) for spec in specs] == [leaf.ndim for leaf in jax.tree.leaves(shapes)]


def mmdit_inputs(guidance):
    img, txt = np.zeros((1, 4, 64), np.float32), np.zeros((1, 3, TINY.mmdit.context_in_dim), np.float32)
    vec = np.zeros((1, TINY.mmdit.vec_in_dim), np.float32)
    return MMDiTInputs(img, txt, vec, np.ones(1, np.float32), np.zeros((7, 3)), None, guidance)


def test_a_guidance_model_asks_for_guidance():
    with pytest.raises(ValueError, match="takes guidance"):
        apply(TINY.mmdit, {"params": {}}, mmdit_inputs(None))


def test_ids_must_match_the_tokens():
    inputs = mmdit_inputs(np.ones(1))._replace(ids=np.zeros((9, 3)))
    with pytest.raises(ValueError, match="9 position ids for 3 text and 4 image tokens"):
        apply(TINY.mmdit, {"params": {}}, inputs)


def test_configs_survive_json_and_refuse_unknown_fields():
    for config in PRESETS.values():
        assert from_dict(ModelConfig, to_dict(config)) == config
    with pytest.raises(ValueError, match="has no field hiden_size"):
        from_dict(MMDiTConfig, {"hiden_size": 3})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 7}, "not a multiple of num_heads"),
        ({"axes_dim": (16, 56, 58)}, "add up to 130"),
        ({"axes_dim": (17, 55, 56)}, "three even numbers"),
    ],
)
def test_impossible_heads_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        MMDiTConfig(**change)


def test_parts_of_different_models_are_refused():
    with pytest.raises(ValueError, match="context_in_dim and t5.d_model differ"):
        ModelConfig(t5=TINY.t5)


# Of tokens 0, 1 and 32,127: the first two channels.
KEPT = [[0.0803813189, -1.6447194815], [-0.1515166163, -1.6223601103], [-1.3085198402, 1.5863219500]]


def test_seeded_features_are_those_of_every_platform():
    """Models trained with these numbers need them again."""
    tokens = jnp.array([[0, 1, 32_127]])
    found = seeded_features(tokens, 4, seed=3, spread=1.0)
    np.testing.assert_allclose(found[0, :, :2], KEPT, atol=1e-6)
    many = seeded_features(jnp.arange(4000)[None], 16, seed=0, spread=0.5)[0]
    assert abs(many.mean()) < 0.01 and abs(many.std() - 0.5) < 0.01
    assert np.abs(np.corrcoef(many[:1000].T) - np.eye(16)).max() < 0.15


@pytest.mark.parametrize("kind", ["t5", "clip"])
def test_a_token_seed_replaces_the_table(kind):
    config = getattr(PRESETS["tiny"], kind)
    seeded = dataclasses.replace(config, token_seed=5)
    names = set(abstract_params(config)[0]) - set(abstract_params(seeded)[0])
    assert names == {{"t5": "embedding", "clip": "token_embedding"}[kind]}
    assert from_dict(type(config), to_dict(seeded)) == seeded


def test_positions_on_the_device_turn_as_those_on_the_host():
    """Angles up to 40 radians, in float32: 4e-6 of a turn."""
    ids = np.random.default_rng(0).integers(0, 40, (6, 3)).astype(np.float32)
    x = jax.random.normal(jax.random.key(0), (2, 6, 3, 32))
    host = apply_rope(x, *rope_table(ids, (8, 12, 12), 10_000))
    device = apply_rope(x, *rope_table(jnp.asarray(np.stack([ids, ids])), (8, 12, 12), 10_000))
    np.testing.assert_allclose(device, host, atol=2e-5)


@pytest.mark.parametrize("halves", [False, True], ids=["neighbours", "halves"])
def test_gpus_turn_pairs_as_other_platforms_do(monkeypatch, halves):
    """The same products and sums in another form, and so is the gradient."""
    x, weights = jax.random.normal(jax.random.key(0), (2, 1, 6, 3, 32))
    table = rope_table(np.arange(18, dtype=np.float32).reshape(6, 3), (8, 12, 12), 10_000)

    def both():
        return jax.value_and_grad(lambda x: jnp.vdot(weights, apply_rope(x, *table, halves)))(x)

    expected = both()
    monkeypatch.setattr(layers, "platform", lambda: "gpu")
    for found, wanted in zip(both(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("kind", "values", "reason"),
    [
        ("mmdit", {"num_heads": 0}, "num_heads must be between 1 and"),
        ("mmdit", {"hidden_size": 2**40}, "hidden_size must be between 1 and 131072"),
        ("mmdit", {"depth": -1}, "depth must be between 0 and 1024"),
        ("mmdit", {"axes_dim": [2, 2]}, "axes_dim must be three even numbers"),
        ("mmdit", {"axes_dim": [0, 16, 16]}, "axes_dim must be between 1 and"),
        ("mmdit", {"axes_dim": [2, 2, 2]}, "add up to 6, expected the head size"),
        ("mmdit", {"theta": "many"}, "theta must be int, got 'many'"),
        ("mmdit", {"mlp_ratio": float("nan")}, "mlp_ratio must be between"),
        ("vae", {"norm_groups": 7}, "width 128 is not a multiple of norm_groups 7"),
        ("vae", {"multipliers": []}, "multipliers must have between 1 and 16 numbers, got 0"),
        ("vae", {"scale": 0}, "scale must not be 0"),
        ("t5", {"length": 10**9}, "length must be between 1 and 2048"),
        ("t5", {"relative_attention_num_buckets": 1}, "num_buckets must be between 4"),
        ("t5", {"token_seed": -1}, "token_seed must be between 0"),
        ("clip", {"num_heads": 5}, "hidden_size 768 is not a multiple of num_heads 5"),
        ("clip", {"max_positions": True}, "max_positions must be int, got True"),
        ("vit", {"std": [0.0, 1.0, 1.0]}, "std must be between"),
        ("efficientnet", {"repeats": [1]}, "these must have equally many numbers"),
    ],
    ids=str,
)
def test_numbers_that_no_network_has_are_refused(kind, values, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        from_dict(NETWORKS[kind].config, values)
