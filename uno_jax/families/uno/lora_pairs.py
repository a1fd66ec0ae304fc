"""Pairs of low-rank factors out of a LoRA's file: checked, scaled, and those of one kernel joined."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from uno_jax.families.uno.lora_keys import read_key
from uno_jax.support.errors import CheckpointError

Tensors = dict[str, np.ndarray]
ScaleOf = Callable[[str, int], float]


class Pair(NamedTuple):
    """down (rank, in) and up (out, rank) of one module; up's first row is row `row` of the site's up."""

    down: np.ndarray
    up: np.ndarray
    row: int = 0


def read_pair(
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


def joined(parts: list[Pair], fan_out: int) -> Pair:
    """One pair equivalent to the parts side by side."""
    shared = all(np.array_equal(part.down, parts[0].down) for part in parts)
    downs = [part.down for part in (parts[:1] if shared else parts)]
    up = np.zeros((fan_out, sum(len(down) for down in downs)), common_dtype(part.up for part in parts))
    column = 0
    for part in parts:
        up[part.row : part.row + len(part.up), column : column + len(part.down)] = part.up
        column += 0 if shared else len(part.down)
    dtype = common_dtype(downs)
    return Pair(np.concatenate([down.astype(dtype, copy=False) for down in downs]), up)


def common_dtype(arrays: Iterable[np.ndarray]) -> np.dtype:
    """That in which the values of all arrays can be held (float64 is read as float32)."""
    return np.dtype(jnp.result_type(*{array.dtype for array in arrays}))
