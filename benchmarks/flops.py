"""FLOPs of the full-size FLUX.1-dev with references, forward and LoRA gradient, against the least they need.

    python -m benchmarks.flops

Counted from abstract shapes in a second, without any weights. The floor is the blocks' products over tokens,
12 hidden² multiply-adds a token and block, and attention's two products; above it are the embedders, the
modulations and whatever is computed needlessly. The gradient's floor adds the backward pass through frozen
kernels, attention 2.5 times (a flash kernel computes its scores again), and the LoRA's products three times.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import table
from uno_jax.costs.flops import count_flops
from uno_jax.families.uno.config import LoraConfig
from uno_jax.families.uno.lora import SITES, abstract_lora
from uno_jax.networks.mmdit import MMDiTInputs
from uno_jax.networks.mmdit_config import MMDiTConfig
from uno_jax.networks.registry import abstract_params, apply
from uno_jax.support.trees import count, subtree

# Tokens of (text, target, references): 512² with a reference of 512², 1024² without, 704² with two of 320².
CASES = {"(a)": (512, 1024, 1024), "(b)": (512, 4096, 0), "(c)": (512, 1936, 800)}


def forward_flops(
    config: MMDiTConfig, text: int, target: int, refs: int, lora: LoraConfig | None = None
) -> int:
    """Operations of one sample's forward; with `lora`, of the forward and the gradient in the LoRA."""

    def shape(*sizes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, jnp.bfloat16)

    def forward(side_path, params, inputs):
        inputs = inputs._replace(ids=np.zeros((text + target + refs, 3)))
        variables = {"params": params} | ({"lora": side_path} if lora else {})
        return apply(config, variables, inputs, dtype=jnp.bfloat16).astype(jnp.float32).sum()

    inputs = MMDiTInputs(
        img=shape(1, target, config.in_channels),
        txt=shape(1, text, config.context_in_dim),
        vec=shape(1, config.vec_in_dim),
        timesteps=shape(1),
        ids=None,
        ref=shape(1, refs, config.in_channels) if refs else None,
        guidance=shape(1) if config.guidance_embed else None,
    )

    return count_flops(
        jax.value_and_grad(forward) if lora else forward,
        abstract_lora(config, lora)[0] if lora else {},
        abstract_params(config, jnp.bfloat16)[0],
        inputs,
    )


def floor(config: MMDiTConfig, tokens: int) -> int:
    """Operations of the blocks' linear layers and of attention."""
    linear, attention = _parts(config, tokens)
    return linear + attention


def gradient_floor(config: MMDiTConfig, lora: LoraConfig, text: int, tokens: int) -> float:
    """Operations of the LoRA's gradient without remat, of `tokens` of which the first `text` are text."""
    linear, attention = _parts(config, tokens)
    side_path = 0
    for site in SITES:
        length = {"img": tokens - text, "txt": text}.get(site[1], tokens)
        side_path += 2 * length * count(subtree(abstract_lora(config, lora)[0], site))
    return 2 * linear + 3.5 * attention + 3 * side_path


def _parts(config: MMDiTConfig, tokens: int) -> tuple[int, int]:
    blocks = config.depth + config.depth_single_blocks
    linear = 12 * config.hidden_size**2 * 2 * tokens
    return blocks * linear, blocks * 4 * tokens**2 * config.hidden_size


def main() -> None:
    config, lora, rows = MMDiTConfig(), LoraConfig(), []
    for name, lengths in CASES.items():
        tokens = sum(lengths)
        for what, counted, least in (
            ("forward", forward_flops(config, *lengths), floor(config, tokens)),
            (
                f"gradient, rank {lora.rank}",
                forward_flops(config, *lengths, lora),
                gradient_floor(config, lora, lengths[0], tokens),
            ),
        ):
            figures = f"{counted / 1e12:.2f}", f"{least / 1e12:.2f}", f"{counted / least:.4f}"
            rows.append((f"{name} {what}", tokens, *figures))
    print(table(("case", "tokens", "TFLOP", "floor", "ratio"), rows))


if __name__ == "__main__":
    main()
