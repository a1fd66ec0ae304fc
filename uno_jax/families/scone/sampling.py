"""Sampling: references and texts to contexts, the denoising loop over them, the picture decoded."""

import jax.numpy as jnp

from uno_jax.families.family import Drawn, Inputs
from uno_jax.families.latents import decode_latent, initial_noise, unpack
from uno_jax.families.model import Model
from uno_jax.families.scone.contexts import make_contexts, make_items, text_item
from uno_jax.families.scone.drawing import Drawing, denoise
from uno_jax.families.scone.guidance import schedule, segments
from uno_jax.families.scone.settings import TILE, SconeSettings, picture_tokens
from uno_jax.families.scone.writing import DRAWING_THOUGHT, write
from uno_jax.networks.splits import Split


def sample(model: Model, inputs: Inputs, settings: SconeSettings) -> Drawn:
    """Pictures of one batch, after the thoughts that settings ask for. Each starts from the noise of its own
    seed, whatever its batch.
    """
    config, guidance = model.config, settings.guidance
    items = make_items(model, inputs, settings, DRAWING_THOUGHT if settings.writing.think else "")
    thoughts = write(model, items, inputs.seeds, settings.writing) if settings.writing.think else []
    if thoughts:
        items.append(text_item(model, thoughts, kind="thought"))
    contexts, reads = make_contexts(model, items, guidance)
    rows, columns = picture_tokens(config, inputs.width, inputs.height)
    noise = initial_noise(inputs.seeds, (rows, columns, config.mot.patch_channels))
    times = schedule(settings.points, settings.shift)
    drawing = Drawing(Split("target", rows, columns), guidance, reads, segments(times, guidance))
    tokens = denoise(
        model, noise.reshape(len(noise), rows * columns, -1), contexts, jnp.asarray(times), drawing
    )
    latent = unpack(tokens, (rows, columns), config.mot.latent_patch, "dy dx z")
    return Drawn(decode_latent(model, latent, TILE), thoughts)
