"""UNO's LoRA as a tree of its own: shapes, initialisation, block subsets. Pure functions of trees.

The tree mirrors the MM-DiT's parameters: at each adapted kernel it holds `down` (layers, in, rank) and `up`
(layers, rank, out). Used as `apply({"params": base, "lora": lora}, ...)`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from jax.sharding import PartitionSpec

from uno_jax.families.uno.config import LoraConfig, UnoPE
from uno_jax.networks.mmdit import MMDiTConfig
from uno_jax.networks.registry import abstract_params
from uno_jax.support.trees import Params, subtree

# UNO adapts the attention's projections, and the whole input of a single block's linear2 (its `layers.py`).
SITES: tuple[tuple[str, ...], ...] = (
    ("double_blocks", "img", "qkv"),
    ("double_blocks", "img", "proj"),
    ("double_blocks", "txt", "qkv"),
    ("double_blocks", "txt", "proj"),
    ("single_blocks", "qkv"),
    ("single_blocks", "linear2"),
)


class LoraInfo(NamedTuple):
    """What a LoRA's directory records beside its parameters: its base and its position convention."""

    mmdit: MMDiTConfig
    lora: LoraConfig
    unope: UnoPE


def abstract_lora(mmdit: MMDiTConfig, lora: LoraConfig) -> tuple[Params, Params]:
    """Shapes (float32 ShapeDtypeStruct leaves) and logical axes, derived from the base's kernels. Raises
    ValueError for blocks that the model does not have.
    """
    block_indices(mmdit, lora)
    shapes, axes = abstract_params(mmdit)
    lora_shapes, lora_axes = {}, {}
    for site in SITES:
        depth, fan_in, fan_out = subtree(shapes, site)["kernel"].shape
        layers, in_axis, out_axis = subtree(axes, site)["kernel"]
        for name, shape, names in (
            ("down", (depth, fan_in, lora.rank), (layers, in_axis, "rank")),
            ("up", (depth, lora.rank, fan_out), (layers, "rank", out_axis)),
        ):
            lora_shapes[*site, name] = jax.ShapeDtypeStruct(shape, jnp.float32)
            lora_axes[*site, name] = PartitionSpec(*names)
    return unflatten_dict(lora_shapes), unflatten_dict(lora_axes)


def block_indices(mmdit: MMDiTConfig, lora: LoraConfig) -> dict[str, tuple[int, ...]]:
    """The blocks that carry LoRA, by kind. Raises ValueError for one that the model does not have."""
    chosen = {}
    for kind, depth, wanted in (
        ("double_blocks", mmdit.depth, lora.double_idx),
        ("single_blocks", mmdit.depth_single_blocks, lora.single_idx),
    ):
        chosen[kind] = tuple(range(depth)) if wanted is None else wanted
        if outside := [index for index in chosen[kind] if not 0 <= index < depth]:
            raise ValueError(f"LoRA wants {kind} {outside}, but the model has blocks 0 to {depth - 1}")
    return chosen


def init_lora(key: jax.Array, mmdit: MMDiTConfig, lora: LoraConfig) -> Params:
    """down ~ N(0, (1/rank)^2), up = 0 (UNO's `LoRALinearLayer`), in float32.

    A block outside the subset gets down = 0 too: then both gradients vanish and it stays the base's block,
    with no mask in the step.
    """
    chosen = block_indices(mmdit, lora)
    leaves = {}
    for number, site in enumerate(SITES):
        shapes = subtree(abstract_lora(mmdit, lora)[0], site)
        depth = shapes["down"].shape[0]
        carries = np.isin(np.arange(depth), chosen[site[0]])[:, None, None]
        noise = jax.random.normal(jax.random.fold_in(key, number), shapes["down"].shape) / lora.rank
        leaves[*site, "down"] = jnp.where(carries, noise, 0.0)
        leaves[*site, "up"] = jnp.zeros(shapes["up"].shape)
    return unflatten_dict(leaves)
