"""Random weights made on the device: nothing is uploaded, and one program fills a network in seconds."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array

from uno_jax.families.uno.config import LoraConfig, ModelConfig
from uno_jax.families.uno.lora import abstract_lora
from uno_jax.networks.layers import hashed_uniform
from uno_jax.networks.registry import abstract_params, arrange
from uno_jax.sharding.rules import tree_shardings
from uno_jax.support.trees import Params


def random_networks(
    config: ModelConfig, kinds: Sequence[str], mesh: Mesh, base: str = ""
) -> dict[str, Params]:
    """Weights of these networks in bfloat16 or with a `base` in 8 bits, placed and arranged as the program
    arranges loaded ones on a GPU; a rehearsal on another platform rehearses that too.
    """
    networks = stacked_networks(config, kinds, mesh)
    if base:
        from uno_jax.networks.quantize import quantize_base

        quantize_base(networks, base)
    for kind in kinds:
        networks[kind] = arrange(kind, networks[kind], "gpu")
    return networks


def stacked_networks(config: ModelConfig, kinds: Sequence[str], mesh: Mesh) -> dict[str, Params]:
    """Weights in bfloat16 as they are read from disk, with blocks stacked."""
    trees = {kind: abstract_params(getattr(config, kind), jnp.bfloat16) for kind in kinds}
    return {
        kind: filled(shapes, tree_shardings(mesh, axes, shapes)) for kind, (shapes, axes) in trees.items()
    }


def random_lora(config: ModelConfig, lora: LoraConfig, mesh: Mesh) -> Params:
    """A LoRA in float32, of which no part is zero."""
    shapes, axes = abstract_lora(config.mmdit, lora)
    made: Params = filled(shapes, tree_shardings(mesh, axes, shapes))
    return made


def filled(shapes: Any, shardings: Any) -> Any:
    """Random arrays of these shapes, of the size that keeps activations of order one; ready when returned."""

    def fill() -> Any:
        paths, structure = jax.tree_util.tree_flatten_with_path(shapes)
        leaves = [_leaf(number, path[-1].key, leaf) for number, (path, leaf) in enumerate(paths)]
        return jax.tree.unflatten(structure, leaves)

    return jax.block_until_ready(jax.jit(fill, out_shardings=shardings)())


def _leaf(number: int, name: str, leaf: jax.ShapeDtypeStruct) -> Array:
    noise = _noise(number, leaf.shape)
    if name == "scale":
        values = 1 + noise / 10
    elif name == "bias":
        values = noise / 10
    else:
        fan_in = math.prod(leaf.shape[:-1]) if len(leaf.shape) == 4 else leaf.shape[-2]
        values = noise / math.sqrt(fan_in)
    made: Array = values.astype(leaf.dtype)
    return made


def _noise(seed: int, shape: tuple[int, ...]) -> Array:
    """Uniform numbers of variance one, which take no temporary memory; a random generator's bits would take
    twice the weights'.
    """
    index = jax.lax.iota(jnp.uint32, math.prod(shape)) + jnp.uint32(0x9E3779B9 * (seed + 1) % 2**32)
    return math.sqrt(3) * hashed_uniform(index).reshape(shape)
