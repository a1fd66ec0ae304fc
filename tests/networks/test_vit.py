"""The vision transformer's numbers and position embedding, and encoders: batches, lengths, errors."""

import dataclasses

import jax
import numpy as np
import pytest
import torch
from jax.sharding import PartitionSpec

from tests.tiny_model import random_params
from uno_jax.evaluation import encoders
from uno_jax.evaluation.encoders import BATCH, image_features, load_encoder, text_features
from uno_jax.families.uno.config import ModelConfig
from uno_jax.networks.clip import CLIPConfig
from uno_jax.networks.registry import abstract_params
from uno_jax.networks.vit import VITS, ViTConfig, bicubic_weights
from uno_jax.support.errors import CheckpointError
from uno_jax.support.settings import from_dict, to_dict
from uno_jax.support.trees import count
from uno_jax.weights.checkpoint import save_network

VISION = ViTConfig(8, 16, 32, 2, 2, grid=2, pre_norm=True, projection=12, resolution=16, shortest_side=16)
TEXT = CLIPConfig(hidden_size=16, intermediate_size=32, num_layers=1, num_heads=2, projection=12)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    save_network(folder / "vit", VISION, random_params(VISION, 0))
    save_network(folder / "clip", TEXT, random_params(TEXT, 1))
    return folder


@pytest.fixture(scope="module")
def encoder(directory):
    return load_encoder(directory)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    sides = rng.integers(16, 40, (BATCH + 3, 2))
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for height, width in sides]


# Sizes of the published files without DINOv2's mask token (384), which only training uses.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [("dino", 21_665_664), ("dinov2", 22_056_192), ("clip", 87_849_216), ("siglip", 92_884_224)],
)
def test_published_networks_have_their_number_of_parameters(name, parameters):
    shapes, axes = abstract_params(VITS[name])
    assert count(shapes) == parameters
    specs = jax.tree.leaves(axes, is_leaf=lambda leaf: isinstance(leaf, PartitionSpec))
    assert [len(spec) for spec in specs] == [leaf.ndim for leaf in jax.tree.leaves(shapes)]
    assert from_dict(ViTConfig, to_dict(VITS[name])) == VITS[name]


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("stored", "shown"), [(37, 16), (7, 11), (14, 1), (5, 5)])
def test_positions_are_resampled_as_torch_does(stored, shown, antialias):
    line = np.random.default_rng(0).standard_normal((1, 2, stored, 3)).astype(np.float32)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(line), size=(shown, 3), mode="bicubic", align_corners=False, antialias=antialias
    )
    ours = np.einsum("oi,bcij->bcoj", bicubic_weights(stored, shown, antialias), line)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 5}, "not a multiple of num_heads"),
        ({"activation": "relu"}, "activation must be one of"),
        ({"resolution": 300}, "shortest_side 256 is less than resolution 300"),
        ({"resolution": 8}, "less than patch_size 16"),
    ],
)
def test_impossible_networks_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ViTConfig(**change)


def test_flux_refuses_a_projected_text_tower():
    with pytest.raises(ValueError, match="clip has a projection"):
        ModelConfig(clip=CLIPConfig(projection=768))


def test_features_do_not_depend_on_the_batch(encoder, pictures):
    together = image_features(encoder, pictures)
    assert together.shape == (BATCH + 3, 12) and together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(image_features(encoder, pictures[-2:]), together[-2:], atol=1e-6)
    assert np.abs(together[0] - together[1]).max() > 0.01
    assert image_features(encoder, []).shape == (0, 12)


def test_one_shape_is_compiled(encoder, pictures):
    encoders._features().clear_cache()
    for some in (pictures, pictures[:1], pictures[:5]):
        image_features(encoder, some)
    assert encoders._features()._cache_size() == 1


def test_prompts_have_features_of_length_one(encoder):
    found = text_features(encoder, ["a red cup", "a blue cup", "a red cup"])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(found[0], found[2])
    assert np.abs(found[0] - found[1]).max() > 1e-4  # the random vocabulary is small beside the positions


def test_weights_of_half_precision_are_computed_in_float32(encoder, pictures, tmp_path):
    halved = jax.tree.map(lambda leaf: leaf.astype(np.float16), encoder.params)
    save_network(tmp_path / "vit", VISION, halved)
    half = load_encoder(tmp_path)
    assert {leaf.dtype for leaf in jax.tree.leaves(half.params)} == {np.dtype(np.float32)}
    np.testing.assert_allclose(
        image_features(half, pictures[:2]), image_features(encoder, pictures[:2]), atol=5e-3
    )


def test_towers_that_do_not_belong_together_are_refused(directory, tmp_path):
    with pytest.raises(FileNotFoundError, match="no encoder .*uno-convert vit"):
        load_encoder(tmp_path)
    (tmp_path / "vit").symlink_to(directory / "vit")
    with pytest.raises(ValueError, match="has no text tower"):
        text_features(load_encoder(tmp_path), ["a cup"])
    for change, message in (
        ({"projection": 0}, "projected to 12 and the text tower to 0"),
        ({"projection": 8}, "projected to 12 and the text tower to 8"),
        ({"vocab_size": 99}, "has 99 tokens"),
    ):
        other = dataclasses.replace(TEXT, **change)
        save_network(tmp_path / "clip", other, random_params(other, 0), overwrite=True)
        with pytest.raises(CheckpointError, match=message):
            load_encoder(tmp_path)
