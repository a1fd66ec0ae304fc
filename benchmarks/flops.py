"""FLOPs of the full-size FLUX.1-dev forward with references, against the least that its blocks need.

    python -m benchmarks.flops

Counted from abstract shapes in a second: no weight is made. The floor is the blocks' products over tokens,
12 hidden² multiply-adds a token and block, and attention's two products; what is above it are the embedders,
the modulations and whatever is computed needlessly.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import table
from uno_jax.config import MMDiTConfig
from uno_jax.flops import count_flops
from uno_jax.models import abstract_params, apply

# Tokens of (text, target, references): 512² with a reference of 512², 1024² without, 704² with two of 320².
CASES = {"(a)": (512, 1024, 1024), "(b)": (512, 4096, 0), "(c)": (512, 1936, 800)}


def forward_flops(config: MMDiTConfig, text: int, target: int, refs: int) -> int:
    """Operations of one forward of one sample."""

    def shape(*sizes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, jnp.bfloat16)

    def forward(params, img, txt, vec, t, ref, guidance):
        ids = np.zeros((text + target + refs, 3))
        inputs = (img, txt, vec, t, ids, ref if refs else None, guidance if config.guidance_embed else None)
        return apply(config, {"params": params}, *inputs, dtype=jnp.bfloat16)

    return count_flops(
        forward,
        abstract_params(config, jnp.bfloat16)[0],
        shape(1, target, config.in_channels),
        shape(1, text, config.context_in_dim),
        shape(1, config.vec_in_dim),
        shape(1),
        shape(1, refs, config.in_channels),
        shape(1),
    )


def floor(config: MMDiTConfig, tokens: int) -> int:
    """Operations of the blocks' linear layers and of attention."""
    blocks = config.depth + config.depth_single_blocks
    return blocks * (12 * config.hidden_size**2 * 2 * tokens + 4 * tokens**2 * config.hidden_size)


def main() -> None:
    rows = []
    for name, lengths in CASES.items():
        counted, least = forward_flops(MMDiTConfig(), *lengths), floor(MMDiTConfig(), sum(lengths))
        rows.append(
            (name, sum(lengths), f"{counted / 1e12:.2f}", f"{least / 1e12:.2f}", f"{counted / least:.4f}")
        )
    print(table(("case", "tokens", "TFLOP", "floor", "ratio"), rows))


if __name__ == "__main__":
    main()
