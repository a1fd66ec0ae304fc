"""Sampling: references and texts to contexts, the denoising loop over them, the picture decoded."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from uno_jax.families.family import Drawn, Inputs
from uno_jax.families.latents import compile_decoder, decode_latent, initial_noise, unpack
from uno_jax.families.model import Model
from uno_jax.families.progress import Progress, Watch, walk
from uno_jax.families.scone.contexts import make_contexts, make_items, text_item
from uno_jax.families.scone.drawing import Contexts, Drawing, denoise
from uno_jax.families.scone.guidance import schedule, segments
from uno_jax.families.scone.settings import TILE, SconeSettings, picture_tokens
from uno_jax.families.scone.writing import DRAWING_THOUGHT, write
from uno_jax.networks.splits import Split
from uno_jax.support.bounded_jit import is_compiled


def sample(model: Model, inputs: Inputs, settings: SconeSettings, watch: Watch | None = None) -> Drawn:
    """Pictures of one batch, after the thoughts that settings ask for. Each starts from the noise of its own
    seed, whatever its batch. With a `watch` the steps run one by one.
    """
    tell = watch or (lambda progress: None)
    tell(Progress("encoding"))
    config, guidance = model.config, settings.guidance
    compile_decoder(model, inputs, TILE)
    items = make_items(model, inputs, settings, DRAWING_THOUGHT if settings.writing.think else "")
    thoughts = write(model, items, inputs.seeds, settings.writing) if settings.writing.think else []
    if thoughts:
        items.append(text_item(model, thoughts, kind="thought"))
    contexts, reads = make_contexts(model, items, guidance)
    rows, columns = picture_tokens(config, inputs.width, inputs.height)
    noise = initial_noise(inputs.seeds, (rows, columns, config.mot.patch_channels))
    times = schedule(settings.points, settings.shift)
    drawing = Drawing(Split("target", rows, columns), guidance, reads, segments(times, guidance))
    noise = noise.reshape(len(noise), rows * columns, -1)
    if watch is None:
        tokens = denoise(model, noise, contexts, jnp.asarray(times), drawing)
    else:
        tokens = watched_tokens(model, noise, contexts, times, drawing, watch)
    tell(Progress("decoding"))
    latent = unpack(tokens, (rows, columns), config.mot.latent_patch, "dy dx z")
    return Drawn(decode_latent(model, latent, TILE), thoughts)


def watched_tokens(
    model: Model,
    noise: Float[Array, "b n c"],
    contexts: Contexts,
    times: Float[np.ndarray, "points"],
    drawing: Drawing,
    watch: Watch,
) -> Float[Array, "b n c"]:
    """As `denoise` of the same arguments, step by step."""
    steps = len(times) - 1

    def arguments(x: Array, step: int) -> tuple[Any, ...]:
        own = replace(drawing, segments=segments(times[step : step + 2], drawing.guidance))
        return model, x, contexts, jnp.asarray(times[step : step + 2]), own

    if not is_compiled(denoise, *arguments(noise, 0)):
        watch(Progress("compiling", 0, steps))
    return walk(noise, steps, lambda x, step: denoise(*arguments(x, step)), watch)
