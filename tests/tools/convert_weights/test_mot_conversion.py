"""BAGEL's and Scone's weights: written in their own names and read again, in each of their forms."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file, save_file

from tests.tiny_scone import MOT, VIT, random_params
from tools.convert_weights.convert import convert, plan
from tools.convert_weights.export import export
from tools.convert_weights.mapping import ConversionError
from tools.convert_weights.source import open_source
from tools.convert_weights.tables import mot
from uno_jax.networks.registry import abstract_params
from uno_jax.networks.vit import ViT
from uno_jax.weights.checkpoint import restore_network, save_network


@pytest.fixture(scope="module")
def bagel(tmp_path_factory):
    """Both networks' parameters, and the file of both."""
    place = tmp_path_factory.mktemp("bagel")
    rng = np.random.default_rng(1)
    eyes = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), abstract_params(VIT)[0])
    trees, tensors = {"mot": (MOT, random_params()), "vit": (VIT, eyes)}, {}
    for table in (mot.MODEL, mot.EYES):
        config, params = trees[table.kind]
        save_network(place / table.kind, config, params)
        tensors |= load_file(export(table, place, place / f"{table.kind}.safetensors"))
    tensors["latent_pos_embed.pos_embed"] = np.zeros((64, 32), np.float32)
    hints = {
        "llm_config": {"rope_theta": 1e6},
        "vit_config": {"num_attention_heads": 3},
        "special_tokens": {
            "bos_token_id": 60,
            "eos_token_id": 61,
            "start_of_image": 62,
            "end_of_image": 63,
        },
        "max_latent_size": 8,
        "vit_max_num_patch_per_side": 6,
        "semantic_mask": {"early_layer_idx": 1, "first_masked_layer": 2, "last_masked_layer": 2},
    }
    (place / "config.json").write_text(json.dumps(hints))
    save_file(tensors, place / "ema.safetensors")
    return place, trees, tensors


def converted(table, file, place):
    return restore_network(convert(plan(table, open_source(file)), place))


@pytest.mark.parametrize("table", [mot.MODEL, mot.EYES], ids=["mot", "vit"])
def test_both_networks_are_read_from_one_file(bagel, table, tmp_path):
    place, trees, _ = bagel
    config, params = converted(table, place / "ema.safetensors", tmp_path)
    expected_config, expected = trees[table.kind]
    assert config == expected_config
    found, wanted = flatten_dict(params), flatten_dict(expected)
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_names_are_the_originals(bagel):
    tensors = bagel[2]
    assert tensors["language_model.model.layers.3.self_attn.k_proj_moe_gen.bias"].shape == (16,)
    assert tensors["language_model.model.layers.0.mlp.gate_proj.weight"].shape == (48, 32)
    assert tensors["vit_model.vision_model.embeddings.patch_embedding.weight"].shape == (12, 12)


def test_a_convolution_of_patches_and_the_last_layer_of_siglip(bagel, tmp_path):
    """SigLIP's own file has a convolution where BAGEL's has a linear layer, and a head that is not used."""
    place, trees, tensors = bagel
    name = "vit_model.vision_model.embeddings.patch_embedding.weight"
    as_linear = tensors[name].reshape(12, 2, 2, 3)
    others = {"vit_model.vision_model.head.probe": np.zeros((1, 1, 12), np.float32)}
    save_file(
        tensors | {name: as_linear.transpose(0, 3, 1, 2).copy()} | others, tmp_path / "model.safetensors"
    )
    (tmp_path / "config.json").write_text((place / "config.json").read_text())
    _, params = converted(mot.EYES, tmp_path / "model.safetensors", tmp_path)
    assert np.array_equal(
        params["patch_embedding"]["conv"]["kernel"], trees["vit"][1]["patch_embedding"]["conv"]["kernel"]
    )


def test_cells_have_the_positions_of_their_row_and_column(bagel):
    """They are not resampled: a picture's first cells are those of the same pixels in a larger one, but for
    attention.
    """
    params = bagel[1]["vit"][1]
    blind = jax.tree.map(jnp.zeros_like, params["blocks"])
    run = jax.jit(lambda pixels: ViT(VIT).apply({"params": params | {"blocks": blind}}, pixels))
    pixels = jax.random.normal(jax.random.key(0), (1, 8, 10, 3))
    assert jnp.abs(run(pixels)[:, :2, :3] - run(pixels[:, :4, :6])).max() < 1e-6
    with pytest.raises(ValueError, match="7x5 patches, but positions for 6 a side"):
        run(jnp.zeros((1, 14, 10, 3)))


def test_half_a_model_is_refused(bagel, tmp_path):
    """A Qwen without the generation expert is not BAGEL, and one that lacks a tensor is named."""
    tensors = bagel[2]
    plain = {name: value for name, value in tensors.items() if "moe_gen" not in name}
    save_file(plain, tmp_path / "model.safetensors")
    with pytest.raises(ConversionError, match="is not a mixture of transformers"):
        plan(mot.MODEL, open_source(tmp_path / "model.safetensors"))
    name = "language_model.model.layers.2.mlp_moe_gen.up_proj.weight"
    (tmp_path / "config.json").write_text((bagel[0] / "config.json").read_text())
    save_file({key: value for key, value in tensors.items() if key != name}, tmp_path / "cut.safetensors")
    with pytest.raises(ConversionError, match=rf"1 missing key \({name}\)"):
        plan(mot.MODEL, open_source(tmp_path / "cut.safetensors"))
