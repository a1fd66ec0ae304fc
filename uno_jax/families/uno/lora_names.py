"""UNO's LoRA in other programs' key names: UNO's dit_lora.safetensors, diffusers/PEFT, and kohya's (ComfyUI).

Pure functions from trees of `families.uno.lora` to {key: array} and back; `lora_layers` has the names.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Literal, cast

import numpy as np
from flax.traverse_util import unflatten_dict

from uno_jax.families.uno.config import LoraConfig
from uno_jax.families.uno.lora import LoraInfo, abstract_lora, block_indices
from uno_jax.families.uno.lora_keys import read_keys
from uno_jax.families.uno.lora_layers import LINEAR1, TABLE, Site, modules_of
from uno_jax.families.uno.lora_pairs import Pair, ScaleOf, Tensors, common_dtype, joined, read_pair
from uno_jax.networks.mmdit_config import MMDiTConfig
from uno_jax.support.errors import CheckpointError
from uno_jax.support.trees import Params, subtree
from uno_jax.support.words import counted

Format = Literal["uno", "diffusers", "kohya"]

SUFFIXES: dict[Format, tuple[str, str]] = {
    "uno": ("down.weight", "up.weight"),
    "diffusers": ("lora_A.weight", "lora_B.weight"),
    "kohya": ("lora_down.weight", "lora_up.weight"),
}


def to_tensors(info: LoraInfo, params: Params, format: Format = "uno") -> Tensors:
    """A LoRA tree in another naming, in torch's (out, in) order, without blocks outside the subset."""
    mmdit, lora = info.mmdit, info.lora
    down_name, up_name = SUFFIXES[format]
    chosen = block_indices(mmdit, lora)
    tensors: Tensors = {}
    for site in TABLE:
        names = _written_names(site, format)
        pair = subtree(params, site)
        for block in chosen[site[0]]:
            down, up = (np.asarray(pair[name][block]).T for name in ("down", "up"))
            if format == "kohya" and site == LINEAR1:
                # kohya's linear1 is qkv and mlp together; UNO does not adapt the mlp.
                up = np.concatenate([up, np.zeros((mmdit.mlp_size, up.shape[1]), up.dtype)])
            for stem, rows in zip(names, np.split(up, len(names)), strict=True):
                name = stem.format(block)
                tensors[f"{name}.{down_name}"] = np.ascontiguousarray(down)
                tensors[f"{name}.{up_name}"] = np.ascontiguousarray(rows)
                if format == "kohya":
                    tensors[f"{name}.alpha"] = np.array(lora.rank, np.float32)  # scale: alpha / rank = 1
    return tensors


def _written_names(site: Site, format: Format) -> tuple[str, ...]:
    if format == "kohya":
        return tuple(f"lora_unet_{name.replace('.', '_')}" for name in TABLE[site]["bfl"])
    return tuple(("transformer." if format == "diffusers" else "") + name for name in TABLE[site][format])


def from_tensors(
    mmdit: MMDiTConfig, tensors: Tensors, scale_of: ScaleOf | None = None
) -> tuple[LoraConfig, Params]:
    """A LoRA's config (rank and block subset as found) and tree from any of the namings.

    `scale_of` gives the scale of a layer of some rank that has no key for its alpha; None: 1. Lower ranks are
    padded with zeros. Modules of one site without a common down matrix (q, k and v trained separately) are
    joined, with their ranks added up.

    Raises CheckpointError as `read_keys`, and for arrays and an alpha that do not fit `mmdit` or each other.
    """
    depths = {"double_blocks": mmdit.depth, "single_blocks": mmdit.depth_single_blocks}
    shapes, _ = abstract_lora(mmdit, LoraConfig(1))
    modules, strange = read_keys(tensors, modules_of(TABLE, {site: depths[site[0]] for site in TABLE}))
    _refuse_layers(strange.values(), depths)
    parts: dict[tuple[Site, int], list[Pair]] = {}
    for module, keys in modules.items():
        site = subtree(shapes, module.site)
        size = site["down"].shape[1], site["up"].shape[2] // module.parts
        pair = read_pair(tensors, keys, size, mmdit.mlp_size if module.whole else 0, scale_of)
        parts.setdefault((module.site, module.block), []).append(pair._replace(row=module.part * size[1]))
    found = {place: joined(pairs, subtree(shapes, place[0])["up"].shape[2]) for place, pairs in parts.items()}
    rank = max(pair.down.shape[0] for pair in found.values())
    double, single = (_subset(found, kind, depth) for kind, depth in depths.items())
    return LoraConfig(rank, double, single), _stacked(shapes, rank, found)


def _refuse_layers(layers: Collection[str], depths: Mapping[str, int]) -> None:
    """Raises CheckpointError if there are any."""
    if layers:
        raise CheckpointError(
            f"{counted(len(layers), 'key')} not of a layer that UNO adapts, in a model of "
            f"{depths['double_blocks']} double and {depths['single_blocks']} single blocks: "
            f"{', '.join(sorted(layers)[:4])}. Sampling takes such a file as it is (--lora)"
        )


def _subset(found: Iterable[tuple[Site, int]], kind: str, depth: int) -> tuple[int, ...] | None:
    blocks = tuple(sorted({block for site, block in found if site[0] == kind}))
    return None if len(blocks) == depth else blocks


def _stacked(shapes: Params, rank: int, found: dict[tuple[Site, int], Pair]) -> Params:
    """The pairs as a LoRA tree in (layers, in, out) order, zero for blocks without a pair."""
    dtype = common_dtype(matrix for pair in found.values() for matrix in (pair.down, pair.up))
    leaves = {}
    for site in TABLE:
        depth, fan_in, _ = subtree(shapes, site)["down"].shape
        down = leaves[*site, "down"] = np.zeros((depth, fan_in, rank), dtype)
        up = leaves[*site, "up"] = np.zeros((depth, rank, subtree(shapes, site)["up"].shape[2]), dtype)
        for block in range(depth):
            if pair := found.get((site, block)):
                down[block, :, : len(pair.down)] = pair.down.T
                up[block, : len(pair.down)] = pair.up.T
    return cast(Params, unflatten_dict(leaves))
