"""A network's repeated blocks: stacked and scanned, or separate and called one after another.

On disk, in training and wherever compile time rules, the parameters of all blocks of a kind are one tree with
a leading axis, which `nn.scan` compiles as one block. On NVIDIA GPUs every iteration of such a scan first
copies its block's weights, since cuBLAS takes whole buffers: by the weighing of docs/benchmarks.md 13 of the
127 ms of FLUX's forward on an H100. Separate trees are not copied, and XLA compiles equal
kernels only once.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from uno_jax.support.trees import Params

Variables = dict[str, Params]

REMAT_POLICIES = {
    "none": None,
    "selective": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


SCANNED = ("__call__", "references")


def scan_stacked(block: Any, depth: int, remat: str, unroll: int) -> Any:
    """`depth` blocks with stacked parameters: the methods `SCANNED` scan over them and `modulations` maps."""
    policy = REMAT_POLICIES[remat]
    if remat != "none":
        block = nn.remat(block, prevent_cse=False, policy=policy, methods=SCANNED)
    stacked: dict[str, Any] = {
        "variable_axes": {"params": 0, "lora": 0},
        "split_rngs": {"params": True},
        "metadata_params": {nn.PARTITION_NAME: "layers"},
    }
    mapped = nn.vmap(block, axis_size=depth, methods=["modulations"], **stacked)
    return nn.scan(
        mapped,
        length=depth,
        unroll=unroll,
        in_axes=(0, nn.broadcast),
        methods=SCANNED,
        check_constancy_invariants=False,  # which traces a block once more
        **stacked,
    )


def call_separate(
    block: Callable[..., Any], blocks: list[Variables], carry: Any, each: Any, remat: str
) -> tuple[Any, Any]:
    """What the last of the blocks passes on, and what every block gives, stacked: `block` is called with a
    block's variables, what the one before passed on, and the block's own part of `each`.
    """
    call = block if remat == "none" else jax.checkpoint(block, policy=REMAT_POLICIES[remat])
    given = []
    for number, variables in enumerate(blocks):
        carry, own = call(variables, carry, _part(each, number))
        given.append(own)
    return carry, jax.tree.map(lambda *parts: jnp.stack(parts), *given)


def separate_blocks(module: nn.Module, name: str) -> list[Variables] | None:
    """The variables of each of a module's blocks `name`; None where their parameters are stacked. Other
    collections, such as a LoRA, may be stacked all the same.
    """
    found = {kind: tree[name] for kind, tree in module.variables.items() if name in tree}
    if not isinstance(found.get("params"), tuple):
        return None
    return [{kind: _at(tree, i) for kind, tree in found.items()} for i in range(len(found["params"]))]


def _at(blocks: Any, number: int) -> Params:
    if isinstance(blocks, tuple):
        return blocks[number]  # type: ignore[no-any-return]
    return _part(blocks, number)  # type: ignore[no-any-return]


def _part(stacked: Any, number: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[number], stacked)


def separate(params: Params, names: tuple[str, ...]) -> Params:
    """A network's parameters with the blocks `names` separate instead of stacked. The stacked arrays are
    deleted one by one, so that only one of them exists twice; shapes give shapes.
    """
    return params | {name: _separated(params[name]) for name in names}


def _separated(blocks: Params) -> tuple[Params, ...]:
    leaves, tree = jax.tree.flatten(blocks)
    columns = [_cut(leaf) for leaf in leaves]
    return tuple(jax.tree.unflatten(tree, row) for row in zip(*columns, strict=True))


def _cut(leaf: Any) -> list[Any]:
    """A stacked array's parts, or their shapes."""
    depth, spec = leaf.shape[0], leaf.sharding.spec
    place = NamedSharding(leaf.sharding.mesh, PartitionSpec(*spec[1:]))
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return [jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype, sharding=place)] * depth
    parts = jax.jit(jnp.unstack, out_shardings=(place,) * depth)(leaf)
    leaf.delete()
    return list(parts)
