"""The mesh and the table from logical axes to mesh axes, on shapes alone."""

import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from uno_jax.families.uno.config import PRESETS, LoraConfig
from uno_jax.families.uno.lora import abstract_lora
from uno_jax.networks.registry import abstract_params
from uno_jax.sharding.rules import MESH_AXES, by_process, make_mesh, tree_shardings


def test_sizes_must_fit_the_devices():
    assert dict(make_mesh(devices=jax.devices()[:1]).shape) == dict.fromkeys(MESH_AXES, 1)
    for sizes in ((2, 1, 1), (-1, -1, 1), (0, -1, 1), (1, 1, 3)):
        with pytest.raises(ValueError, match="does not fit 1 device"):
            make_mesh(*sizes, devices=jax.devices()[:1])


def spec(tree, *path):
    for key in path:
        tree = tree[key]
    return tree.spec


def test_the_full_model_is_spread_over_both_axes():
    mesh = AbstractMesh((1, 4, 2, 1), MESH_AXES)
    shapes, axes = abstract_params(PRESETS["flux_dev"].mmdit)
    shardings = tree_shardings(mesh, axes, shapes)
    qkv = spec(shardings, "double_blocks", "img", "qkv", "kernel")
    assert qkv == PartitionSpec(None, "fsdp", "tensor")
    assert spec(shardings, "single_blocks", "linear2", "kernel") == PartitionSpec(None, "tensor", "fsdp")
    held = jax.tree.map(lambda leaf, sharding: math.prod(sharding.shard_shape(leaf.shape)), shapes, shardings)
    whole = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert sum(jax.tree.leaves(held)) < whole / 8 * 1.01


def test_a_dimension_that_does_not_divide_is_replicated():
    mesh = AbstractMesh((1, 5, 1, 1), MESH_AXES)
    shapes, axes = abstract_lora(PRESETS["tiny"].mmdit, LoraConfig(4))
    assert spec(tree_shardings(mesh, axes, shapes), "single_blocks", "qkv", "down") == PartitionSpec(
        None, None, None
    )


def test_all_of_a_lora_is_spread():
    mesh = AbstractMesh((1, 4, 1, 1), MESH_AXES)
    shapes, axes = abstract_lora(PRESETS["flux_dev"].mmdit, LoraConfig())
    shardings = tree_shardings(mesh, axes, shapes)
    held = jax.tree.map(lambda leaf, sharding: math.prod(sharding.shard_shape(leaf.shape)), shapes, shardings)
    assert sum(jax.tree.leaves(held)) * 4 == sum(leaf.size for leaf in jax.tree.leaves(shapes))


def test_the_devices_of_a_process_are_neighbours():
    """As on v5p:2x2x4, where the torus puts every fourth device on one host."""
    torus = np.array([SimpleNamespace(id=i, process_index=(0, 2, 1, 3)[i % 4]) for i in range(16)], object)
    arranged = by_process(torus.reshape(2, 8, 1, 1))
    assert arranged.shape == (2, 8, 1, 1)
    assert [device.process_index for device in arranged.flat] == [0] * 4 + [2] * 4 + [1] * 4 + [3] * 4
    assert [device.id for device in arranged.flat][:5] == [0, 4, 8, 12, 1]
    assert (by_process(arranged) == arranged).all()
