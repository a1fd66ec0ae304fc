"""Sampling: encode text and references, denoise in one loop, decode.

References keep their shapes, so a list of photos has many: programs are compiled for each and those of the
latest few are kept (`bounded_jit`).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import reduce
from jaxtyping import Array, Float, Int

from uno_jax.families.family import Drawn, Inputs
from uno_jax.families.flow import sampling_schedule
from uno_jax.families.latents import (
    compile_decoder,
    decode_latent,
    encode_image,
    initial_noise,
    token_grid,
    unpack,
)
from uno_jax.families.model import Model
from uno_jax.families.progress import Progress, Watch, walk
from uno_jax.families.uno.conditioning import encode_text, tokenize
from uno_jax.families.uno.config import ModelConfig
from uno_jax.families.uno.denoising import (
    Contrast,
    Left,
    Schedule,
    Start,
    State,
    Steps,
    denoise,
    first_state,
    last_tokens,
    prepare,
    take_step,
)
from uno_jax.families.uno.settings import Settings
from uno_jax.families.uno.types import Conditioning
from uno_jax.support.bounded_jit import bounded_jit, compile_ahead, is_compiled
from uno_jax.support.trees import AnyArray


def sample(model: Model, inputs: Inputs, settings: Settings, watch: Watch | None = None) -> Drawn:
    """Pictures of one batch. Each starts from the noise of its own seed, whatever its batch. With a `watch`
    the steps run one by one. Each stage has its own networks alone (`Model.using`).
    """
    tell = watch or (lambda progress: None)
    tell(Progress("encoding"))
    compile_autoencoder(model, inputs, settings.tile)
    task = encode_inputs(model, inputs, settings)
    draw = denoise_latent if watch is None else partial(watched_latent, watch=watch)
    latent = draw(model.using("mmdit", "lora"), *task)
    tell(Progress("decoding"))
    return Drawn(decode_latent(model.using("vae"), latent, settings.tile))


def compile_autoencoder(model: Model, inputs: Inputs, tile: int) -> None:
    """Begins to compile the autoencoder's programs, while those of text and steps are compiled."""
    if model.homes is not None:
        return
    own = model.using("vae")
    for column in inputs.refs:
        compile_ahead(encode_image, own, np.asarray(column))
    compile_decoder(own, inputs, tile)


def encode_inputs(model: Model, inputs: Inputs, settings: Settings) -> tuple[Any, ...]:
    """What `denoise_latent` takes beside the model."""
    schedule = schedule_of(model.config, inputs, settings)
    acts = settings.acts_at(np.asarray(schedule.times)[:-1])
    shown, contrast = encode_texts(model.using("t5", "clip"), inputs, settings)
    refs, given = encode_pictures(model.using("vae"), inputs)
    contrast = contrast and contrast._replace(acts=acts)
    noise = initial_noise(inputs.seeds, latent_shape(model.config, inputs.width, inputs.height))
    return noise, shown._replace(refs=refs), schedule, contrast, given


def schedule_of(config: ModelConfig, inputs: Inputs, settings: Settings) -> Schedule:
    """The times of a batch and the steps that are computed; those of a start image begin part way, by its
    strength.
    """
    shift = config.mmdit.guidance_embed
    times = sampling_schedule(settings.steps, inputs.width, inputs.height, shift)
    times = times if inputs.start is None else times[settings.skipped :]
    return Schedule(times, settings.computed_at(times[:-1]))


def encode_texts(model: Model, inputs: Inputs, settings: Settings) -> tuple[Conditioning, Contrast | None]:
    """The prompts without references, and guidance at all times, if there is any."""
    count, away = len(inputs.prompts), settings.away_from(len(inputs.refs))
    guidance = jnp.full(count, settings.guidance or 0.0, jnp.float32)
    shown = Conditioning(*encode_prompts(model, inputs.prompts), (), guidance, settings.unope)
    if not away:
        return shown, None
    texts = {"prompt": shown}
    if "negative" in away:
        txt, vec = encode_prompts(model, inputs.negatives or [""] * count)
        texts["negative"] = shown._replace(txt=txt, vec=vec)
    plain = one_batch(*(texts[name] for name in away))
    return shown, Contrast(plain, tuple(away.values()))


@bounded_jit
def one_batch(*each: Conditioning) -> Conditioning:
    """Conditionings one after another along their batches."""
    joined: Conditioning = jax.tree.map(lambda *parts: jnp.concatenate(parts), *each)
    return joined


def encode_pictures(
    model: Model, inputs: Inputs
) -> tuple[tuple[Float[Array, "b h w z"], ...], Left | Start | None]:
    """The latents of references and of what is given."""
    refs = tuple(encode_image(model, np.asarray(column)) for column in inputs.refs)
    return refs, encode_given(model, inputs)


def encode_given(model: Model, inputs: Inputs) -> Left | Start | None:
    """The latent of what is given of the pictures, in pixels: a left half, or a start image and its mask."""
    if inputs.left is not None:
        return Left(encode_image(model, inputs.left))
    if inputs.start is None:
        return None
    latent = encode_image(model, inputs.start)
    if inputs.mask is None:
        return Start(latent)
    cells = model.config.vae.downsampling
    share = reduce(inputs.mask, "b (h y) (w x) -> b h w 1", "mean", y=cells, x=cells)
    return Start(latent, (share >= 0.5).astype(np.float32))


def watched_latent(model: Model, *task: Any, watch: Watch) -> Float[Array, "b h w z"]:
    """As `denoise_latent` of the same arguments, step by step."""
    steps, state = begin_steps(model, *task)
    count = len(steps.each.t)
    if not is_compiled(next_state, model, steps, state, jnp.int32(0)):
        watch(Progress("compiling", 0, count))
    state = walk(state, count, lambda state, step: next_state(model, steps, state, jnp.int32(step)), watch)
    return last_latent(steps, state)


@bounded_jit
def begin_steps(model: Model, *task: Any) -> tuple[Steps, State]:
    """What the steps of a drawing share (`denoising.prepare`), and the state that the first begins with."""
    steps = prepare(model, *task)
    return steps, first_state(steps)


@bounded_jit
def next_state(model: Model, steps: Steps, state: State, step: Int[Array, ""]) -> State:
    """The state after step number `step`."""
    return take_step(model, steps, state, jax.tree.map(lambda leaf: leaf[step], steps.each))


@bounded_jit
def last_latent(steps: Steps, state: State) -> Float[Array, "b h w z"]:
    """The picture's scaled latent after the last step."""
    return unpack(last_tokens(steps, state), token_grid(steps.noise))


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
    schedule: Schedule | Float[AnyArray, "points"],
    contrast: Contrast | None = None,
    given: Left | Start | None = None,
) -> Float[Array, "b h w z"]:
    """The whole denoising loop (`denoising.denoise`), from noise to the picture's scaled latent."""
    return unpack(denoise(model, noise, conditioning, schedule, contrast, given), token_grid(noise))
