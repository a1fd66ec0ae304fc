"""Layers that are several in one matrix give the same numbers cut, and need nothing moved between chips."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from tests.devices import simulated
from uno_jax.costs.program import chip_bytes, placed
from uno_jax.families.uno.config import PRESETS
from uno_jax.networks.fused import columns, parts_of
from uno_jax.networks.layers import Dense
from uno_jax.networks.registry import abstract_params, cut
from uno_jax.sharding.rules import MESH_AXES, tree_shardings

FLUX = PRESETS["flux_dev"].mmdit


def on_mesh(*sizes):
    shapes, axes = abstract_params(FLUX, jnp.bfloat16)
    return placed(shapes, tree_shardings(AbstractMesh(sizes, MESH_AXES), axes, shapes))


def test_each_chip_holds_its_share_of_every_part():
    whole = on_mesh(1, 2, 4, 1)
    parts = cut("mmdit", whole)
    qkv, linear2 = parts["single_blocks"]["qkv"], parts["single_blocks"]["linear2"]
    assert qkv["kernel"].shape == (38, 3072, 3, 3072) and qkv["bias"].shape == (38, 3, 3072)
    assert qkv["kernel"].sharding.spec == PartitionSpec(None, "fsdp", None, "tensor")
    assert [rows.shape for rows in linear2["kernel"]] == [(38, 3072, 3072), (38, 12288, 3072)]
    assert parts["double_blocks"]["txt"]["mod"]["lin"]["kernel"].shape == (19, 3072, 6, 3072)
    assert chip_bytes(parts) == chip_bytes(whole)


@pytest.mark.parametrize("sizes", [(1, 8, 1, 1), (1, 1, 9, 1)], ids=["not sharded", "not divisible"])
def test_others_stay_whole(sizes):
    whole = on_mesh(*sizes)
    same = jax.tree.map(lambda left, right: left.shape == right.shape, cut("mmdit", whole), whole)
    assert all(jax.tree.leaves(same["double_blocks"])) and all(jax.tree.leaves(same["single_blocks"]["qkv"]))


def blocks(array, parts):
    """As on GPUs: the last part is an array of its own."""
    first = array.shape[-1] // parts * (parts - 1)
    return array[..., :first], array[..., first:]


CUTS = [("kernel",), ("bias",), ("up",), ("kernel", "bias", "up")]


@pytest.mark.parametrize(
    ("which", "cut"),
    [*((which, columns) for which in CUTS), (("kernel",), blocks), (("kernel", "bias"), blocks)],
)
def test_a_layer_takes_any_of_its_arrays_cut(which, cut):
    draw = np.random.default_rng(0).standard_normal
    shapes = {"kernel": (4, 6), "bias": (6,), "down": (4, 2), "up": (2, 6)}
    whole = {name: jnp.asarray(draw(shape), jnp.float32) for name, shape in shapes.items()}
    some = {name: cut(leaf, 3) if name in which else leaf for name, leaf in whole.items()}
    x = jnp.asarray(draw((2, 5, 4)), jnp.float32)

    def outputs(arrays):
        given = {name: arrays[name] for name in ("kernel", "bias")}
        lora = {name: arrays[name] for name in ("down", "up")}
        y = Dense(6, ("embed", "heads")).apply({"params": given, "lora": lora}, x, method="in_columns")
        return parts_of(y, 3, 2)

    for found, expected in zip(outputs(some), outputs(whole), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_kernel_in_row_blocks_takes_the_inputs_apart():
    draw = np.random.default_rng(0).standard_normal
    kernel, left, right = (jnp.asarray(draw(s), jnp.float32) for s in ((6, 3), (2, 2), (2, 4)))
    layer = Dense(3, ("mlp", "embed"), use_bias=False)
    expected = layer.apply({"params": {"kernel": kernel}}, left, right)
    found = layer.apply({"params": {"kernel": (kernel[:2], kernel[2:])}}, left, right)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """What four simulated devices compute."""
    out = tmp_path_factory.mktemp("four") / "out.npz"
    command = [sys.executable, "-m", "tests.networks.four_devices", str(out)]
    done = subprocess.run(command, env=simulated(4), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(out) as stored:
        return {name: stored[name] for name in stored.files}


@pytest.mark.slow
def test_with_heads_on_four_chips_nothing_is_moved_and_the_numbers_are_those_of_one(arrays):
    for case in ("stacked", "separate"):
        assert arrays[f"{case} moved"] == 0 and arrays[f"{case} held"] == 1 / 4
        for name in (name.removeprefix("alone ") for name in arrays if name.startswith("alone ")):
            if name not in ("moved", "held"):
                expected = arrays[f"alone {name}"]
                atol = 1e-5 * np.abs(expected).max()
                np.testing.assert_allclose(arrays[f"{case} {name}"], expected, rtol=0, atol=atol)


@pytest.mark.slow
def test_t5_gathers_weights_and_sums_no_activations(arrays):
    assert arrays["sums_of_t5"] == 0
