"""UNO's LoRA as a separate parameter tree: shapes, initialisation and block subsets, as pure functions.

The tree mirrors the MM-DiT's parameters: for each adapted kernel it holds `down` (layers, in, rank) and `up`
(layers, rank, out). It is used as `apply({"params": base, "lora": lora}, ...)`.
"""

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from jax.sharding import PartitionSpec

from uno_jax.families.uno.config import LoraConfig, UnoPE
from uno_jax.networks.mmdit_config import MMDiTConfig
from uno_jax.networks.registry import abstract_params
from uno_jax.support.trees import Params, subtree

# UNO adapts the attention's projections and, in single blocks, all of linear2 (its `layers.py`).
SITES: tuple[tuple[str, ...], ...] = (
    ("double_blocks", "img", "qkv"),
    ("double_blocks", "img", "proj"),
    ("double_blocks", "txt", "qkv"),
    ("double_blocks", "txt", "proj"),
    ("single_blocks", "qkv"),
    ("single_blocks", "linear2"),
)


class LoraInfo(NamedTuple):
    """What a LoRA's directory records beside its parameters: the base, the LoRA, the position convention."""

    mmdit: MMDiTConfig
    lora: LoraConfig
    unope: UnoPE


def abstract_lora(mmdit: MMDiTConfig, lora: LoraConfig) -> tuple[Params, Params]:
    """Shapes (float32 ShapeDtypeStruct leaves) and logical axes, derived from the base's kernels.

    Raises ValueError for blocks that the model does not have.
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
    """Indices of the adapted blocks, by kind.

    Raises ValueError for blocks that the model does not have.
    """
    chosen = {}
    for kind, depth, wanted in (
        ("double_blocks", mmdit.depth, lora.double_idx),
        ("single_blocks", mmdit.depth_single_blocks, lora.single_idx),
    ):
        chosen[kind] = tuple(range(depth)) if wanted is None else wanted
        if outside := [index for index in chosen[kind] if not 0 <= index < depth]:
            raise ValueError(f"LoRA adapts {kind} {outside}, but the model has blocks 0 to {depth - 1}")
    return chosen


def init_lora(key: jax.Array, mmdit: MMDiTConfig, lora: LoraConfig) -> Params:
    """Random parameters in float32: down ~ N(0, (1/rank)^2), up = 0 (UNO's `LoRALinearLayer`).

    Blocks outside the subset get down = 0 too: both gradients are then zero and the block stays the base's,
    without a mask in the training step.
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
    return cast(Params, unflatten_dict(leaves))
