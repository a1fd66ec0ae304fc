"""UNO's LoRA in other programs' key names: UNO's dit_lora.safetensors, diffusers/PEFT, and kohya's (ComfyUI).

Pure functions from trees of `families.uno.lora` to {key: array} and back; `lora_keys` has the names.
"""

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, cast

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax.traverse_util import unflatten_dict

from uno_jax.families.uno.config import LoraConfig
from uno_jax.families.uno.lora import LoraInfo, abstract_lora, block_indices
from uno_jax.families.uno.lora_keys import LINEAR1, TABLE, Site, read_key, read_keys
from uno_jax.networks.mmdit import MMDiTConfig
from uno_jax.support.errors import CheckpointError
from uno_jax.support.trees import Params, subtree

Format = Literal["uno", "diffusers", "kohya"]
Tensors = dict[str, np.ndarray]
ScaleOf = Callable[[str, int], float]

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
    parts: dict[tuple[Site, int], list[Pair]] = {}
    for module, keys in read_keys(tensors, depths).items():
        site = subtree(shapes, module.site)
        size = site["down"].shape[1], site["up"].shape[2] // module.parts
        pair = _read_pair(tensors, keys, size, mmdit.mlp_size if module.whole else 0, scale_of)
        parts.setdefault((module.site, module.block), []).append(pair._replace(row=module.part * size[1]))
    found = {
        place: _joined(pairs, subtree(shapes, place[0])["up"].shape[2]) for place, pairs in parts.items()
    }
    rank = max(pair.down.shape[0] for pair in found.values())
    double, single = (_subset(found, kind, depth) for kind, depth in depths.items())
    return LoraConfig(rank, double, single), _stacked(shapes, rank, found)


class Pair(NamedTuple):
    """down (rank, in) and up (out, rank) of one module; up's first row is row `row` of the site's up."""

    down: np.ndarray
    up: np.ndarray
    row: int = 0


def _read_pair(
    tensors: Tensors, keys: dict[str, str], size: tuple[int, int], surplus: int, scale_of: ScaleOf | None
) -> Pair:
    """One module's pair, with its scale applied to up, which may have `surplus` more rows of zeros."""
    down, up = (_read_factor(tensors, keys[kind]) for kind in ("down", "up"))
    fan_in, rows = size
    if surplus and up.shape[0] == rows + surplus:
        if up[rows:].any():
            raise CheckpointError(
                f"{keys['up']} adapts the mlp of a single block too, which UNO's LoRA does not"
            )
        up = up[:rows]
    if down.shape != (up.shape[1], fan_in) or up.shape[0] != rows:
        raise CheckpointError(
            f"the layer of {keys['down']} has down {down.shape} and up {up.shape}, expected (rank, {fan_in}) "
            f"and ({rows}, rank)"
        )
    return Pair(down, _scaled(up, _read_scale(tensors, keys, len(down), scale_of)))


def _read_factor(tensors: Tensors, key: str) -> np.ndarray:
    """A matrix, in bfloat16 where it is stored in 8 bits.

    Raises CheckpointError.
    """
    factor = tensors[key]
    if not jnp.issubdtype(factor.dtype, jnp.floating):
        raise CheckpointError(f"{key} is of {factor.dtype}, expected floating-point numbers")
    if factor.ndim != 2 or not factor.size:
        raise CheckpointError(f"{key} has the shape {factor.shape}, expected a matrix of rank 1 or more")
    wide = factor.astype(ml_dtypes.bfloat16) if factor.dtype.itemsize == 1 else factor
    if not np.isfinite(wide).all():
        raise CheckpointError(f"{key} holds NaN or infinite values")
    return wide


def _read_scale(tensors: Tensors, keys: dict[str, str], rank: int, scale_of: ScaleOf | None) -> float:
    """alpha / rank, or what `scale_of` says where no alpha is stored.

    Raises CheckpointError.
    """
    if "alpha" not in keys:
        layer = read_key(keys["down"])
        return 1.0 if scale_of is None or layer is None else scale_of(layer.layer, rank)
    key, alpha = keys["alpha"], tensors[keys["alpha"]]
    if alpha.size != 1:
        raise CheckpointError(f"{key} has the shape {alpha.shape}, expected one number")
    value = float(alpha.reshape(()))
    if not np.isfinite(value) or not value:
        raise CheckpointError(
            f"{key} is {value}, expected a finite number other than 0 (programs differ in what 0 means)"
        )
    return value / rank


def _scaled(up: np.ndarray, scale: float) -> np.ndarray:
    """Computed in float32, and kept in it unless up's own dtype holds the same values.

    Raises CheckpointError for values that overflow.
    """
    if scale == 1.0:
        return up
    with np.errstate(over="ignore"):
        exact = up.astype(np.float32) * np.float32(scale)
        narrow = exact.astype(up.dtype)
    if not np.isfinite(exact).all():
        raise CheckpointError(f"the scale {scale:g} of a layer makes its update infinite")
    return narrow if np.array_equal(narrow.astype(np.float32), exact) else exact


def _joined(parts: list[Pair], fan_out: int) -> Pair:
    """One pair equivalent to the parts side by side."""
    shared = all(np.array_equal(part.down, parts[0].down) for part in parts)
    downs = [part.down for part in (parts[:1] if shared else parts)]
    up = np.zeros((fan_out, sum(len(down) for down in downs)), _common_dtype(part.up for part in parts))
    column = 0
    for part in parts:
        up[part.row : part.row + len(part.up), column : column + len(part.down)] = part.up
        column += 0 if shared else len(part.down)
    dtype = _common_dtype(downs)
    return Pair(np.concatenate([down.astype(dtype, copy=False) for down in downs]), up)


def _common_dtype(arrays: Iterable[np.ndarray]) -> np.dtype:
    """That in which the values of all arrays can be held (float64 is read as float32)."""
    return np.dtype(jnp.result_type(*{array.dtype for array in arrays}))


def _subset(found: Iterable[tuple[Site, int]], kind: str, depth: int) -> tuple[int, ...] | None:
    blocks = tuple(sorted({block for site, block in found if site[0] == kind}))
    return None if len(blocks) == depth else blocks


def _stacked(shapes: Params, rank: int, found: dict[tuple[Site, int], Pair]) -> Params:
    """The pairs as a LoRA tree in (layers, in, out) order, zero for blocks without a pair."""
    dtype = _common_dtype(matrix for pair in found.values() for matrix in (pair.down, pair.up))
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
