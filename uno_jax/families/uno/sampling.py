"""Sampling: encode text and references, denoise in one loop, decode.

References keep their shapes, so a list of photos has many: programs are compiled for each and those of the
latest few are kept (`bounded_jit`).
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from uno_jax.families.family import Drawn, Inputs
from uno_jax.families.flow import sampling_schedule
from uno_jax.families.latents import decode_latent, encode_image, initial_noise, token_grid, unpack
from uno_jax.families.model import Model
from uno_jax.families.uno.conditioning import encode_text, tokenize
from uno_jax.families.uno.config import ModelConfig
from uno_jax.families.uno.settings import Settings
from uno_jax.families.uno.types import Conditioning
from uno_jax.families.uno.velocity import Contrast, denoise
from uno_jax.support.bounded_jit import bounded_jit
from uno_jax.support.trees import AnyArray


def sample(model: Model, inputs: Inputs, settings: Settings) -> Drawn:
    """Pictures of one batch. Each starts from the noise of its own seed, whatever its batch."""
    config, count = model.config, len(inputs.prompts)
    refs = tuple(encode_image(model, np.asarray(column)) for column in inputs.refs)
    left = None if inputs.left is None else encode_image(model, inputs.left)
    guidance = jnp.full(count, settings.guidance or 0.0, jnp.float32)
    given = Conditioning(*encode_prompts(model, inputs.prompts), refs, guidance, settings.unope)
    contrast = None
    if settings.true_cfg != 1:
        plain = Conditioning(*encode_prompts(model, [""] * count), (), guidance, settings.unope)
        contrast = Contrast(plain, settings.true_cfg)
    noise = initial_noise(inputs.seeds, latent_shape(config, inputs.width, inputs.height))
    shift = config.mmdit.guidance_embed
    schedule = sampling_schedule(settings.steps, inputs.width, inputs.height, shift)
    latent = denoise_latent(model, noise, given, schedule, contrast, left)
    return Drawn(decode_latent(model, latent, settings.tile))


def encode_prompts(model: Model, prompts: Sequence[str]) -> tuple[Float[Array, "b s d"], Float[Array, "b v"]]:
    """T5's hidden states and CLIP's pooled output of prompts."""
    tokens = tokenize(model.config, prompts)
    return encode_text(model, tokens["t5"], tokens["clip"])


def latent_shape(config: ModelConfig, width: int, height: int) -> tuple[int, int, int]:
    """Rows, columns and channels of the latent for a picture of width x height pixels."""
    cells = config.vae.downsampling
    return height // cells, width // cells, config.vae.latent_channels


@bounded_jit
def denoise_latent(
    model: Model,
    noise: Float[AnyArray, "b h w z"],
    conditioning: Conditioning,
    schedule: Float[AnyArray, "points"],
    contrast: Contrast | None = None,
    left: Float[AnyArray, "b h w/2 z"] | None = None,
) -> Float[Array, "b h w z"]:
    """The whole denoising loop (`velocity.denoise`), from noise to the picture's scaled latent."""
    return unpack(denoise(model, noise, conditioning, schedule, contrast, left), token_grid(noise))
