"""Positions of tokens: position ids and UnoPE, as pure functions."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from uno_jax.families.latents import TokenSize
from uno_jax.families.uno.config import UnoPE


def left_half(size: TokenSize) -> Bool[np.ndarray, "l"]:
    """Mask of the tokens in the left half of a picture of that size."""
    return np.tile(np.arange(size[1]) < size[1] // 2, size[0])


def reference_offsets(
    target: TokenSize, references: Sequence[TokenSize], unope: UnoPE
) -> list[tuple[float, float]]:
    """Row and column where each reference's ids start (UNO section 3.3, `flux/modules` of its code).

    The first starts at the target's size, each next one where the reference before it ends: a diagonal
    without overlap. The scale multiplies the whole offset, so 0.5 overlaps and 2 leaves a gap; fractions are
    kept, since rope accepts any real number.
    """
    offsets = []
    row, col = target
    for h, w in references:
        offsets.append(
            (
                unope.offset_scale * row if unope.variant in "dh" else 0.0,
                unope.offset_scale * col if unope.variant in "dw" else 0.0,
            )
        )
        row, col = row + h, col + w
    return offsets


def grid_ids(size: TokenSize, offset: tuple[float, float] = (0.0, 0.0)) -> Float[np.ndarray, "l 3"]:
    """The ids (0, row, column) of each token, rows outermost."""
    rows, cols = np.meshgrid(np.arange(size[0]) + offset[0], np.arange(size[1]) + offset[1], indexing="ij")
    return np.stack([np.zeros_like(rows), rows, cols], axis=-1).reshape(-1, 3).astype(np.float32)


def position_ids(
    txt_length: int, target: TokenSize, references: Sequence[TokenSize] = (), unope: UnoPE = UnoPE()
) -> Float[np.ndarray, "n 3"]:
    """Ids of text (all zero), target and references, in the MM-DiT's order of tokens."""
    offsets = reference_offsets(target, references, unope)
    txt = np.zeros((txt_length, 3), np.float32)
    return np.concatenate([txt, grid_ids(target), *map(grid_ids, references, offsets)])


def shifted_ids(
    ids: Float[np.ndarray, "n 3"], start: int, shift: Float[Array, "b 2"]
) -> Float[Array, "b n 3"]:
    """The ids with all from `start` on moved by rows and columns, which every sample has of its own."""
    moved = np.arange(len(ids))[:, None] >= start
    return jnp.asarray(ids) + jnp.where(moved, jnp.pad(shift, ((0, 0), (1, 0)))[:, None], 0.0)
