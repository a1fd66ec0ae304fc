"""The model of the speed benchmarks: FLUX in every number's proportion but the width, and its inputs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from uno_jax.families.uno.positions import PATCH, TokenSize, pack
from uno_jax.families.uno.types import Conditioning
from uno_jax.families.uno.velocity import velocity
from uno_jax.networks.config import MMDiTConfig, UnoPE
from uno_jax.networks.mmdit import MMDiT
from uno_jax.networks.registry import Params

CONFIG = MMDiTConfig(
    vec_in_dim=768, context_in_dim=768, hidden_size=512, num_heads=4, depth=4, depth_single_blocks=8
)
TEXT, TARGET, REFS = 128, (16, 16), ((16, 16),)  # 640 tokens: a picture of 256² with one reference


class Inputs(NamedTuple):
    """A noisy latent with its conditioning, for a batch of one."""

    latent: Float[Array, "1 h w z"]
    conditioning: Conditioning
    t: Float[Array, " 1"]
    guidance: Float[Array, " 1"]


def make_inputs(config: MMDiTConfig, text: int, target: TokenSize, refs: tuple[TokenSize, ...]) -> Inputs:
    """Random ones; sizes are in tokens."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(rng.standard_normal(shape, np.float32))

    def latent(rows: int, columns: int) -> jax.Array:
        return normal(1, PATCH * rows, PATCH * columns, config.in_channels // PATCH**2)

    conditioning = Conditioning(
        normal(1, text, config.context_in_dim),
        normal(1, config.vec_in_dim),
        tuple(latent(*size) for size in refs),
    )
    return Inputs(latent(*target), conditioning, jnp.full(1, 0.5), jnp.full(1, 4.0))


def forward(net: MMDiT, variables: dict[str, Params], inputs: Inputs) -> Float[Array, "1 l c"]:
    """The velocity of the target's tokens."""
    size = (inputs.latent.shape[1] // PATCH, inputs.latent.shape[2] // PATCH)
    x, guidance = pack(inputs.latent), inputs.guidance if net.config.guidance_embed else None
    return velocity(net, variables, x, size, inputs.conditioning, inputs.t, guidance, UnoPE())
