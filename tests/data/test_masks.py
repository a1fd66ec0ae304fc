"""Masks of targets: from a list to the weights of a loss, and to encodings and shards and back."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.lists import write_json, write_picture
from tests.tiny_model import MAKE_BATCH, random_params
from uno_jax.data.__main__ import main as data_command
from uno_jax.data.batches import make_dataset
from uno_jax.data.check import sizes_or_reason
from uno_jax.data.config import DataConfig
from uno_jax.data.entries import DataError
from uno_jax.data.image_files import mask_array
from uno_jax.data.records import each_picture, read_list
from uno_jax.families.uno.config import PRESETS
from uno_jax.families.uno.objective import Noised, flow_loss, token_weights
from uno_jax.families.uno.types import Conditioning
from uno_jax.networks.registry import network
from uno_jax.toybox.__main__ import main as toybox
from uno_jax.training.config import TrainConfig
from uno_jax.training.config_check import check_recipe
from uno_jax.training.encode_dataset import encode_lists
from uno_jax.training.run import read_data

MMDIT = PRESETS["tiny"].mmdit


@pytest.fixture
def listed(tmp_path):
    """Two records, of which the first has a mask: white on the left."""
    white = np.zeros((64, 64), np.uint8)
    white[:, :24] = 255
    Image.fromarray(white).save(tmp_path / "mask.png")
    entries = [
        {
            "prompt": str(number),
            "image_tgt_path": write_picture(tmp_path / f"{number}.png", number, (64, 64)),
            "image_paths": [write_picture(tmp_path / f"r{number}.png", 100 + number, (32, 32))],
        }
        for number in range(2)
    ]
    entries[0]["image_tgt_mask_path"] = "mask.png"
    return write_json(tmp_path / "list.json", entries)


def batch_of(path, **changes):
    config = DataConfig(str(path), resolution=64, ref_resolution=32, text_dropout=0.0, threads=1, **changes)
    return next(make_dataset(read_list(path), config, 2, MAKE_BATCH, 0))


def test_a_record_has_the_mask_that_its_list_names(listed):
    records = read_list(listed)
    assert [record.mask for record in records] == [str(listed.parent / "mask.png"), ""]
    assert [len(record.refs) for record in records] == [1, 1]
    assert any(record.mask for record in records)
    assert records[0].files[-1] == records[0].mask and len(records[1].files) == 2
    pictures = each_picture(records)
    assert len(pictures) == 4 and not any(record.mask for record in pictures)


def test_a_batch_has_masks_where_they_have_a_weight(listed):
    assert batch_of(listed).mask is None
    batch = batch_of(listed, mask_weight=5.0)
    assert batch.mask.shape == (2, 8, 8) and batch.mask.dtype == np.uint8
    first = int(np.argmin(batch.target[:, 0, 0, 0]))
    assert (batch.mask[first, :, :3] == 255).all() and not batch.mask[first, :, 3:].any()
    assert not batch.mask[1 - first].any()


def test_weights_of_tokens_are_means_over_their_cells():
    mask = np.zeros((1, 4, 8), np.uint8)
    mask[:, :2, :3] = 255
    expected = [[5, 3, 1, 1, 1, 1, 1, 1]]
    np.testing.assert_allclose(token_weights(jnp.asarray(mask), (2, 4), 5.0), expected, rtol=1e-6)


def test_the_loss_is_the_weighted_mean_of_the_tokens_errors():
    params, size = random_params(MMDIT, 1), (2, 4)
    rng = np.random.default_rng(0)
    latent, noise = (jnp.asarray(rng.standard_normal((1, 4, 8, 16), np.float32)) for _ in range(2))
    txt = jnp.asarray(rng.standard_normal((1, 3, MMDIT.context_in_dim), np.float32))
    vec = jnp.asarray(rng.standard_normal((1, MMDIT.vec_in_dim), np.float32))
    given = jnp.array([[True, False, False, False] * size[0]])

    @jax.jit
    def loss(weight):
        sample = Noised(latent, noise, jnp.array([0.7]), given, weight)
        conditioning = Conditioning(txt, vec, guidance=jnp.ones(1))
        return flow_loss(network(MMDIT), {"params": params}, sample, conditioning)

    alone = [float(loss(jnp.eye(8)[None, token])) for token in (1, 2, 3, 5, 6, 7)]
    np.testing.assert_allclose(loss(None), np.mean(alone), rtol=1e-5)
    weights = np.array([9.0, 1, 5, 1, 9, 2, 1, 1])
    counted = weights[[1, 2, 3, 5, 6, 7]]
    np.testing.assert_allclose(
        loss(jnp.asarray(weights)[None]), np.average(alone, weights=counted), rtol=1e-5
    )


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        data_command([str(argument) for argument in arguments])
    return ended.value.code


def test_masks_are_packed_checked_and_written_again(listed, tmp_path, capsys):
    assert run("pack", listed, "--out", tmp_path / "packed") == 0
    packed = batch_of(tmp_path / "packed" / "records.json", mask_weight=2.0)
    for one, other in zip(packed.mask, batch_of(listed, mask_weight=2.0).mask, strict=True):
        np.testing.assert_array_equal(one, other)
    written = tmp_path / "sized.json"
    assert run("check", listed, "--write", written) == 0
    assert [entry.get("image_tgt_mask_path") for entry in json.loads(written.read_text())] == [
        str(listed.parent / "mask.png"),
        None,
    ]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (Image.new("L", (64, 48)), "mask.png: the mask is 64x48, its target 1 times as wide as high"),
        (Image.new("RGBA", (64, 64)), "mask.png: a mask must be opaque, white and black"),
        (Image.new("LA", (64, 64), (255, 100)), "mask.png: a mask must be opaque, white and black"),
    ],
)
def test_masks_that_would_be_others_are_refused_by_all(listed, tmp_path, capsys, mask, message):
    mask.save(listed.parent / "mask.png")
    data = DataConfig(str(listed), resolution=64, ref_resolution=32)
    assert message in sizes_or_reason(data, read_list(listed)[0])
    assert run("pack", listed, "--out", tmp_path / "packed") == 2
    assert message in capsys.readouterr().err
    with pytest.raises(DataError, match="left out|bad"):
        for _ in range(2):
            batch_of(listed, mask_weight=2.0, max_bad_share=0.0)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "I;16"])
def test_opaque_masks_of_any_kind_are_alike(listed, mode):
    grey = Image.open(listed.parent / "mask.png").convert("L")
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    (wide if mode == "I;16" else grey.convert(mode)).save(listed.parent / "other.png")
    first, other = (
        mask_array(str(listed.parent / f"{name}.png"), (64, 64), 1.0) for name in ("mask", "other")
    )
    np.testing.assert_array_equal(first, other)


def test_the_toy_world_writes_masks_of_its_subjects(tmp_path):
    toybox(["--out", str(tmp_path / "pairs"), "--count", "2", "--references", "2", "--size", "64", "--masks"])
    records = read_list(tmp_path / "pairs" / "pairs.json")
    shares = [np.asarray(Image.open(record.mask)).mean() / 255 for record in records]
    assert all(0.05 < share < 0.6 for share in shares)
    toybox(["--out", str(tmp_path / "plain"), "--count", "2", "--references", "2", "--size", "64"])
    plain = read_list(tmp_path / "plain" / "pairs.json")
    assert not any(record.mask for record in plain)
    for with_mask, without in zip(records, plain, strict=True):
        np.testing.assert_array_equal(Image.open(with_mask.target), Image.open(without.target))


def test_a_weight_without_masks_is_refused(listed, tmp_path):
    entries = json.loads(listed.read_text())
    del entries[0]["image_tgt_mask_path"]
    data = DataConfig(str(listed), mask_weight=2.0)
    recipe = TrainConfig(workdir=str(tmp_path / "run"), weights="small", data=data)
    read_data(recipe)
    write_json(listed, entries)
    with pytest.raises(ValueError, match="mask_weight is 2, but no record has a mask"):
        read_data(recipe)
    with pytest.raises(ValueError, match="mask_weight is 2, but no record has a mask"):
        encode_lists(recipe, tmp_path / "encodings")
    with pytest.raises(ValueError, match="autoencoder has no masks"):
        check_recipe(dataclasses.replace(recipe, objective="autoencoder"))
