"""The model of the speed benchmarks: a narrow FLUX of fewer blocks, and its inputs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from uno_jax.families.latents import PATCH, TokenSize, pack, token_grid
from uno_jax.families.uno.types import Conditioning
from uno_jax.families.uno.velocity import velocity
from uno_jax.networks.mmdit import MMDiT
from uno_jax.networks.mmdit_config import MMDiTConfig
from uno_jax.support.trees import Params

CONFIG = MMDiTConfig(
    vec_in_dim=768, context_in_dim=768, hidden_size=512, num_heads=4, depth=4, depth_single_blocks=8
)
TEXT, TARGET, REFS = 128, (16, 16), ((16, 16),)  # 640 tokens: a picture of 256² with one reference


class Inputs(NamedTuple):
    """A noisy latent with its conditioning, for a batch of one."""

    latent: Float[Array, "1 h w z"]
    conditioning: Conditioning
    t: Float[Array, " 1"]


def make_inputs(config: MMDiTConfig, text: int, target: TokenSize, refs: tuple[TokenSize, ...]) -> Inputs:
    """Random inputs; sizes are in tokens."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(rng.standard_normal(shape, np.float32))

    def latent(rows: int, columns: int) -> jax.Array:
        return normal(1, PATCH * rows, PATCH * columns, config.in_channels // PATCH**2)

    conditioning = Conditioning(
        normal(1, text, config.context_in_dim),
        normal(1, config.vec_in_dim),
        tuple(latent(*size) for size in refs),
        jnp.full(1, 4.0),
    )
    return Inputs(latent(*target), conditioning, jnp.full(1, 0.5))


def forward(net: MMDiT, variables: dict[str, Params], inputs: Inputs) -> Float[Array, "1 l c"]:
    """The velocity of the target's tokens."""
    latent, t, conditioning = inputs.latent, inputs.t, inputs.conditioning
    return velocity(net, variables, pack(latent), token_grid(latent), t, conditioning)
