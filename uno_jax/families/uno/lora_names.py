"""UNO's LoRA in other programs' key names: UNO's dit_lora.safetensors, diffusers/PEFT, and kohya's (ComfyUI).

Pure functions from trees of `families.uno.lora` to {key: array} and back.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple, cast

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from uno_jax.families.uno.config import LoraConfig
from uno_jax.families.uno.lora import LoraInfo, abstract_lora, block_indices
from uno_jax.networks.mmdit import MMDiTConfig
from uno_jax.support.errors import CheckpointError
from uno_jax.support.trees import Params, subtree
from uno_jax.support.words import counted

Format = Literal["uno", "diffusers", "kohya"]
Tensors = dict[str, np.ndarray]
Site = tuple[str, ...]
LINEAR1: Site = ("single_blocks", "qkv")

SUFFIXES: dict[Format, tuple[str, str]] = {
    "uno": ("down.weight", "up.weight"),
    "diffusers": ("lora_A.weight", "lora_B.weight"),
    "kohya": ("lora_down.weight", "lora_up.weight"),
}
# The modules of a site in each naming; {} is the block's index. diffusers has separate q, k and v.
TABLE: dict[Site, dict[Format, tuple[str, ...]]] = {
    ("double_blocks", "img", "qkv"): {
        "uno": ("double_blocks.{}.processor.qkv_lora1",),
        "diffusers": tuple(f"transformer.transformer_blocks.{{}}.attn.to_{x}" for x in "qkv"),
        "kohya": ("lora_unet_double_blocks_{}_img_attn_qkv",),
    },
    ("double_blocks", "img", "proj"): {
        "uno": ("double_blocks.{}.processor.proj_lora1",),
        "diffusers": ("transformer.transformer_blocks.{}.attn.to_out.0",),
        "kohya": ("lora_unet_double_blocks_{}_img_attn_proj",),
    },
    ("double_blocks", "txt", "qkv"): {
        "uno": ("double_blocks.{}.processor.qkv_lora2",),
        "diffusers": tuple(f"transformer.transformer_blocks.{{}}.attn.add_{x}_proj" for x in "qkv"),
        "kohya": ("lora_unet_double_blocks_{}_txt_attn_qkv",),
    },
    ("double_blocks", "txt", "proj"): {
        "uno": ("double_blocks.{}.processor.proj_lora2",),
        "diffusers": ("transformer.transformer_blocks.{}.attn.to_add_out",),
        "kohya": ("lora_unet_double_blocks_{}_txt_attn_proj",),
    },
    LINEAR1: {
        "uno": ("single_blocks.{}.processor.qkv_lora",),
        "diffusers": tuple(f"transformer.single_transformer_blocks.{{}}.attn.to_{x}" for x in "qkv"),
        "kohya": ("lora_unet_single_blocks_{}_linear1",),
    },
    ("single_blocks", "linear2"): {
        "uno": ("single_blocks.{}.processor.proj_lora",),
        "diffusers": ("transformer.single_transformer_blocks.{}.proj_out",),
        "kohya": ("lora_unet_single_blocks_{}_linear2",),
    },
}


def to_tensors(info: LoraInfo, params: Params, format: Format = "uno") -> Tensors:
    """A LoRA tree in another naming, in torch's (out, in) order, without blocks outside the subset."""
    mmdit, lora = info.mmdit, info.lora
    down_name, up_name = SUFFIXES[format]
    chosen = block_indices(mmdit, lora)
    tensors: Tensors = {}
    for site, names in TABLE.items():
        pair = subtree(params, site)
        for block in chosen[site[0]]:
            down, up = (np.asarray(pair[name][block]).T for name in ("down", "up"))
            if format == "kohya" and site == LINEAR1:
                # kohya's linear1 is qkv and mlp together; UNO does not adapt the mlp.
                up = np.concatenate([up, np.zeros((mmdit.mlp_size, up.shape[1]), up.dtype)])
            for stem, rows in zip(names[format], np.split(up, len(names[format])), strict=True):
                name = stem.format(block)
                tensors[f"{name}.{down_name}"] = np.ascontiguousarray(down)
                tensors[f"{name}.{up_name}"] = np.ascontiguousarray(rows)
                if format == "kohya":
                    tensors[f"{name}.alpha"] = np.array(lora.rank, np.float32)  # scale: alpha / rank = 1
    return tensors


def from_tensors(
    mmdit: MMDiTConfig, tensors: Tensors, alpha: int | float | None = None
) -> tuple[LoraConfig, Params]:
    """A LoRA's config (rank and block subset as found) and tree from any of the namings.

    `alpha` is used for modules that have no key for it; None means their rank, so a scale of 1. Lower ranks
    are padded with zeros. Modules of one site without a common down matrix (q, k and v trained separately)
    are joined, with their ranks added up.

    Raises CheckpointError for keys of layers that UNO does not adapt, for half a pair, and for shapes that do
    not fit `mmdit`.
    """
    format, rest = detect(tensors), dict(tensors)
    shapes, _ = abstract_lora(mmdit, LoraConfig(1))
    found: dict[tuple[Site, int], Pair] = {}
    for site in TABLE:
        depth, fan_in, _ = subtree(shapes, site)["down"].shape
        fan_out = subtree(shapes, site)["up"].shape[2]
        for block in range(depth):
            parts = []
            for index, stem in enumerate(stems := TABLE[site][format]):
                rows = fan_out // len(stems)
                surplus = mmdit.mlp_size if format == "kohya" and site == LINEAR1 else 0
                if pair := _take(rest, stem.format(block), SUFFIXES[format], (fan_in, rows), surplus, alpha):
                    parts.append(pair._replace(row=index * rows))
            if parts:
                found[site, block] = _joined(parts, fan_out)
    if rest or not found:
        raise CheckpointError(
            f"{counted(len(rest), 'key')} not of a layer that UNO adapts, in a model of {mmdit.depth} double "
            f"and {mmdit.depth_single_blocks} single blocks: {', '.join(sorted(rest)[:4])}"
        )
    rank = max(pair.down.shape[0] for pair in found.values())
    double, single = (
        _subset(found, kind, depth)
        for kind, depth in (("double_blocks", mmdit.depth), ("single_blocks", mmdit.depth_single_blocks))
    )
    return LoraConfig(rank, double, single), _stacked(shapes, rank, found)


def detect(keys: Iterable[str]) -> Format:
    """The naming of a set of keys.

    Raises CheckpointError if it is not one of the known ones.
    """
    keys = list(keys)
    marks: dict[Format, str] = {"kohya": "lora_unet_", "uno": ".processor.", "diffusers": ".lora_A."}
    for format, mark in marks.items():
        if any(mark in key for key in keys):
            return format
    raise CheckpointError(
        f"not a LoRA in UNO's, diffusers' or kohya's naming: its keys are like {', '.join(sorted(keys)[:3])}"
    )


class Pair(NamedTuple):
    """down (rank, in) and up (out, rank) of one module; up's first row is row `row` of the site's up."""

    down: np.ndarray
    up: np.ndarray
    row: int = 0


def _take(
    rest: Tensors,
    name: str,
    suffixes: tuple[str, str],
    size: tuple[int, int],
    surplus: int,
    alpha: int | float | None,
) -> Pair | None:
    """Pops one module's pair from `rest` and applies its alpha. up may have `surplus` more rows of zeros."""
    down, up = (rest.pop(f"{name}.{suffix}", None) for suffix in suffixes)
    if down is None and up is None:
        return None
    if down is None or up is None:
        raise CheckpointError(f"{name} has only one of {' and '.join(suffixes)}")
    fan_in, rows = size
    if surplus and up.shape[0] == rows + surplus:
        if up[rows:].any():
            raise CheckpointError(f"{name} adapts the mlp of a single block too, which UNO's LoRA does not")
        up = up[:rows]
    if down.shape != (up.shape[1], fan_in) or up.shape[0] != rows:
        raise CheckpointError(
            f"{name} has down {down.shape} and up {up.shape}, expected (rank, {fan_in}) and ({rows}, rank)"
        )
    scale = float(rest.pop(f"{name}.alpha", alpha or len(down))) / len(down)
    return Pair(down, up if scale == 1.0 else (up * scale).astype(up.dtype))


def _joined(parts: list[Pair], fan_out: int) -> Pair:
    """One pair equivalent to the parts side by side."""
    shared = all(np.array_equal(part.down, parts[0].down) for part in parts)
    downs = [part.down for part in (parts[:1] if shared else parts)]
    up = np.zeros((fan_out, sum(len(down) for down in downs)), parts[0].up.dtype)
    column = 0
    for part in parts:
        up[part.row : part.row + len(part.up), column : column + len(part.down)] = part.up
        column += 0 if shared else len(part.down)
    return Pair(np.concatenate(downs), up)


def _subset(found: Iterable[tuple[Site, int]], kind: str, depth: int) -> tuple[int, ...] | None:
    blocks = tuple(sorted({block for site, block in found if site[0] == kind}))
    return None if len(blocks) == depth else blocks


def _stacked(shapes: Params, rank: int, found: dict[tuple[Site, int], Pair]) -> Params:
    """The pairs as a LoRA tree in (layers, in, out) order, zero for blocks without a pair."""
    dtype = jnp.result_type(*{matrix.dtype for pair in found.values() for matrix in (pair.down, pair.up)})
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
