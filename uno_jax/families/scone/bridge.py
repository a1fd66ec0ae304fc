"""The bridge: what of the references a target sees while Scone is trained (section 3.3; Scone
`qwen2_navit.py`).

After an early layer, every ViT cell of a reference is compared with the instruction. In the layers that
follow, targets see the cells, and the latent tokens at the same places, that are at least `threshold` alike.
Marks, text and the target itself are always seen, and everything is where there is no instruction.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from uno_jax.families.scone.splits import bridged_pairs
from uno_jax.networks.splits import MARKS, Split, Splits


@dataclass(frozen=True)
class Bridge:
    """From the understanding stream to the tokens, in the order of the splits, that targets may see."""

    splits: Splits
    threshold: float

    def __call__(self, und: Float[Array, "b u d"]) -> Bool[Array, "b l"]:
        alike = similarity(und, self.splits)
        return (alike >= self.threshold) | ~_compared(self.splits)


def similarity(und: Float[Array, "b u d"], splits: Splits) -> Float[Array, "b l"]:
    """The mean cosine of each token of a reference with the instruction's tokens, bos and eos included, in
    float32; 1 for what is not compared.
    """
    parts = _parts(_normalised(und), splits)
    texts = [part for part, split in zip(parts, splits, strict=True) if split.kind == "text"]
    found = [jnp.ones((len(und), split.length)) for split in splits]
    if texts:
        instruction = jnp.concatenate(texts, axis=1).mean(1)
        for latent, cells in bridged_pairs(splits):
            shown = parts[cells][:, 1:-1]
            alike = jnp.einsum("bnd,bd->bn", shown, instruction)
            found[cells] = found[cells].at[:, 1:-1].set(alike)
            if latent is not None:
                resized = resize(alike, splits[cells], splits[latent])
                found[latent] = found[latent].at[:, MARKS:].set(resized)
    return jnp.concatenate(found, axis=1)


def resize(values: Float[Array, "b n"], given: Split, wanted: Split) -> Float[Array, "b m"]:
    """A grid of values at the places of another grid: bilinear with half-pixel centres, not antialiased."""
    grid = values.reshape(-1, given.rows, given.columns)
    rows, columns = (
        bilinear_weights(*sizes) for sizes in ((given.rows, wanted.rows), (given.columns, wanted.columns))
    )
    return jnp.einsum("hy,wx,byx->bhw", rows, columns, grid).reshape(len(values), -1)


def bilinear_weights(given: int, wanted: int) -> Float[np.ndarray, "wanted given"]:
    """The matrix that resamples a line of values as torch's `interpolate` does in mode bilinear."""
    centres = np.clip((np.arange(wanted) + 0.5) * given / wanted - 0.5, 0, given - 1)
    distances = np.abs(centres[:, None] - np.arange(given))
    weights: np.ndarray = np.maximum(0, 1 - distances).astype(np.float32)
    return weights


def _compared(splits: Splits) -> Bool[np.ndarray, "l"]:
    """The tokens of references whose similarity counts."""
    marked = [np.zeros(split.length, bool) for split in splits]
    if any(split.kind == "text" for split in splits):
        for latent, cells in bridged_pairs(splits):
            marked[cells][1:-1] = True
            if latent is not None:
                marked[latent][MARKS:] = True
    return np.concatenate(marked)


def _normalised(x: Float[Array, "b u d"]) -> Float[Array, "b u d"]:
    x = x.astype(jnp.float32)
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def _parts(und: Array, splits: Splits) -> list[Array]:
    """The understanding stream, split by split."""
    ends = np.cumsum([split.understood for split in splits])
    return jnp.split(und, ends[:-1], axis=1)
