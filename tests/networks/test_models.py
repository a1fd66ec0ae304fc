"""Full-size shapes without arrays, logical axes everywhere, and errors of the MM-DiT."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from uno_jax.families.uno.config import PRESETS, LoraConfig, ModelConfig
from uno_jax.families.uno.lora import abstract_lora
from uno_jax.networks.mmdit import MMDiTConfig, MMDiTInputs
from uno_jax.networks.registry import abstract_params, apply
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
