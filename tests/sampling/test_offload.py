"""Offloaded models draw the same pictures, with each stage's networks alone on the device."""

import gc

import jax
import numpy as np
import pytest
from PIL import Image

from tests.tiny_model import TINY, write_lora, write_model
from uno_jax import generate, load_model
from uno_jax.families.registry import PRESETS, family_of
from uno_jax.families.uno.config import UnoPE
from uno_jax.support.trees import count
from uno_jax.weights.lora_files import load_lora


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("offload")
    write_lora(folder / "lora", UnoPE())
    return write_model(folder)


def test_pictures_are_those_of_a_model_on_the_device(folder):
    asked = {
        "refs": Image.new("RGB", (48, 32), "red"),
        "width": 64,
        "height": 32,
        "steps": 2,
        "true_cfg": 2.0,
        "image_cfg": 3.0,
    }
    here = generate(load_model(folder, base="int8"), "a cup", **asked)
    apart = generate(load_model(folder, base="int8", offload=True), "a cup", **asked)
    np.testing.assert_array_equal(here[0], apart[0])


def test_a_lora_can_run_beside_offloaded_weights(folder):
    _, unope, lora = load_lora(folder / "lora", TINY.mmdit)
    asked = {"width": 32, "height": 32, "steps": 1, "lora": lora, "unope": unope}
    here, apart = (
        generate(load_model(folder, None, offload=part), "a cup", **asked) for part in (False, True)
    )
    np.testing.assert_array_equal(here[0], apart[0])


def test_a_stage_has_its_own_networks_alone(folder):
    gc.collect()
    before = sum(array.nbytes for array in jax.live_arrays())
    model = load_model(folder, offload=True)
    sizes = {kind: 4 * count(tree) for kind, tree in model.params.items()}
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(model.params))
    found = {}

    def watch(progress):
        gc.collect()
        found[progress.phase] = sum(array.nbytes for array in jax.live_arrays()) - before

    generate(model, "a cup", width=32, height=32, steps=2, watch=watch)
    assert sizes["mmdit"] <= found["drawing"] < sum(sizes.values())
    assert found["encoding"] < min(sizes.values()) and found["decoding"] < min(sizes.values())


def test_a_model_that_needs_all_at_once_is_refused():
    with pytest.raises(ValueError, match="scone cannot be offloaded"):
        family_of(PRESETS["scone"]).need_stages()
