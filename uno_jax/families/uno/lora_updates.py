"""A LoRA of any trainer as updates of a FLUX model's networks, whichever of their layers it adapts.

`lora_names` reads UNO's own, which training goes on with; sampling and merging take what this reads.
"""

from collections.abc import Iterable
from typing import NamedTuple, cast

import numpy as np
from flax.traverse_util import unflatten_dict

from uno_jax.families.uno.config import ModelConfig
from uno_jax.families.uno.lora_keys import BLOCK, detect, read_keys
from uno_jax.families.uno.lora_layers import LINEAR1, MLP, MORE, TABLE, TEXT, Module, Site, modules_of
from uno_jax.families.uno.lora_pairs import Pair, ScaleOf, Tensors, common_dtype, joined, read_pair
from uno_jax.networks.registry import abstract_params
from uno_jax.support.errors import CheckpointError
from uno_jax.support.trees import Params, TreePath, subtree
from uno_jax.support.words import counted

WIDE = TABLE | MORE | TEXT


class Kernel(NamedTuple):
    """Where a site's kernel lies, and its shape: (layers, in, out), or (in, out) of a layer that is there
    once.
    """

    network: str
    path: TreePath
    shape: tuple[int, ...]


def read_updates(
    config: ModelConfig, tensors: Tensors, scale_of: ScaleOf | None = None
) -> tuple[dict[str, Params], list[str]]:
    """Trees of `down` and `up` by network, and the names of layers that the model does not have.

    Raises CheckpointError as `lora_names.from_tensors`, for blocks beyond the model's, and where nothing is
    left.
    """
    kernels = _kernels(config)
    depths = {site: kernel.shape[0] if len(kernel.shape) == 3 else 1 for site, kernel in kernels.items()}
    modules, strange = read_keys(tensors, modules_of(WIDE, depths))
    left_out = sorted(set(strange.values()))
    _refuse_blocks(config, left_out)
    if not modules:
        raise CheckpointError(f"it adapts no layer of this model, but {', '.join(left_out[:4])}")
    parts: dict[Site, dict[int, list[Pair]]] = {}
    for module, keys in modules.items():
        for site, pair in _read_module(tensors, keys, module, kernels, scale_of).items():
            parts.setdefault(site, {}).setdefault(module.block, []).append(pair)
    leaves: dict[tuple[str, ...], np.ndarray] = {}
    for site, blocks in parts.items():
        kernel = kernels[site]
        found = {block: joined(pairs, kernel.shape[-1]) for block, pairs in blocks.items()}
        for name, leaf in _stacked(kernel, found).items():
            leaves[kernel.network, *kernel.path, name] = leaf
    return cast(dict[str, Params], unflatten_dict(leaves)), left_out


def is_own(keys: Iterable[str]) -> bool:
    """Whether keys are in the naming of UNO's own files, which say nothing of positions."""
    return detect(keys) == "uno"


def _kernels(config: ModelConfig) -> dict[Site, Kernel]:
    """The kernels of all sites that the model has."""
    shapes = {kind: abstract_params(getattr(config, kind))[0] for kind in ("mmdit", "clip", "t5")}
    found = {}
    for site in WIDE:
        network, path = (site[0], site[1:]) if site in TEXT else ("mmdit", site)
        if path[0] in shapes[network]:
            found[site] = Kernel(network, path, subtree(shapes[network], path)["kernel"].shape)
    return found


def _refuse_blocks(config: ModelConfig, layers: list[str]) -> None:
    """Raises CheckpointError for layers of blocks, which only a LoRA of a larger model has."""
    if beyond := [layer for layer in layers if BLOCK.match(layer)]:
        raise CheckpointError(
            f"{counted(len(beyond), 'layer')} not of a model of {config.mmdit.depth} double and "
            f"{config.mmdit.depth_single_blocks} single blocks: {', '.join(beyond[:4])}"
        )


def _read_module(
    tensors: Tensors,
    keys: dict[str, str],
    module: Module,
    kernels: dict[Site, Kernel],
    scale_of: ScaleOf | None,
) -> dict[Site, Pair]:
    """A module's pair; the two of linear1, which is qkv and mlp in one."""
    *_, fan_in, width = kernels[module.site].shape
    rows, mlp = width // module.parts, kernels[MLP].shape[-1]
    both = module.whole and tensors[keys["up"]].shape[:1] == (rows + mlp,)
    pair = read_pair(tensors, keys, (fan_in, rows + mlp if both else rows), 0, scale_of)
    if not both:
        up = np.roll(pair.up, rows // 2, axis=0) if module.swapped else pair.up
        return {module.site: pair._replace(up=up, row=module.part * rows)}
    parts = {LINEAR1: pair.up[:rows], MLP: pair.up[rows:]}
    return {site: pair._replace(up=up) for site, up in parts.items() if up.any() or site == LINEAR1}


def _stacked(kernel: Kernel, found: dict[int, Pair]) -> dict[str, np.ndarray]:
    """The pairs in (layers, in, out) order, of lower ranks and of blocks without a pair filled with zeros."""
    dtype = common_dtype(matrix for pair in found.values() for matrix in (pair.down, pair.up))
    rank = max(len(pair.down) for pair in found.values())
    *layers, fan_in, width = kernel.shape
    down, up = (np.zeros((*(layers or [1]), *shape), dtype) for shape in ((fan_in, rank), (rank, width)))
    for block, pair in found.items():
        down[block, :, : len(pair.down)] = pair.down.T
        up[block, : len(pair.down)] = pair.up.T
    return {"down": down, "up": up} if layers else {"down": down[0], "up": up[0]}
