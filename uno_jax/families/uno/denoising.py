"""The loop of Euler steps that denoises a picture: with guidance, with a part that is given, from a start."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from uno_jax.families import flow
from uno_jax.families.latents import pack, token_grid
from uno_jax.families.model import Model
from uno_jax.families.uno.positions import left_half
from uno_jax.families.uno.types import Conditioning
from uno_jax.families.uno.velocity import modulations, variables, velocity, with_reference_keys
from uno_jax.networks.mmdit import MMDiT, Modulations
from uno_jax.support.trees import AnyArray


class Contrast(NamedTuple):
    """Classifier-free guidance (arXiv 2207.12598; diffusers' true_cfg_scale) away from the prediction for
    `plain`, a negative or the empty prompt without references. It doubles the work of the steps where it
    `acts`, None for all.
    """

    plain: Conditioning
    scale: float | Array
    acts: Bool[AnyArray, "n"] | None = None


class Left(NamedTuple):
    """The latent of a diptych's left half: only the right half is generated. The left is shown without noise,
    but to the plain prediction as noisy as the rest (diptych prompting, arXiv 2411.15466).
    """

    latent: Float[AnyArray, "b h w/2 z"]


class Start(NamedTuple):
    """The latent of a picture that the first step starts from, as noisy as the schedule begins; and for
    inpainting where it is `redrawn`, 1, while elsewhere, 0, it is put back after every step, as noisy as the
    next begins (diffusers' FluxImg2ImgPipeline, FluxInpaintPipeline).
    """

    latent: Float[AnyArray, "b h w z"]
    redrawn: Float[AnyArray, "b h w 1"] | None = None


class Steps(NamedTuple):
    """What the steps of a drawing share, and in `each` what is a step's own, with a leading axis: its time
    and the next, modulations, those of the plain prediction, and whether guidance acts.
    """

    noise: Float[AnyArray, "b h w z"]
    conditioning: Conditioning
    contrast: Contrast | None
    given: Left | Start | None
    each: tuple[Array, Array, Modulations, Modulations | None, Array | None]


def denoise(
    model: Model,
    noise: Float[AnyArray, "b h w z"],
    conditioning: Conditioning,
    schedule: Float[AnyArray, "points"],
    contrast: Contrast | None = None,
    given: Left | Start | None = None,
) -> Float[Array, "b l c"]:
    """The tokens after all Euler steps from `noise` (UNO `sampling.py` denoise), in one scan, the modulations
    of all steps computed before. The state stays in float32; the network computes in the model's dtype.
    """
    steps = prepare(model, noise, conditioning, schedule, contrast, given)

    def step(x: Array, each: Any) -> tuple[Array, None]:
        return take_step(model, steps, x, each), None

    tokens, _ = jax.lax.scan(step, first_tokens(steps), steps.each)
    return last_tokens(steps, tokens)


def prepare(
    model: Model,
    noise: Float[AnyArray, "b h w z"],
    conditioning: Conditioning,
    schedule: Float[AnyArray, "points"],
    contrast: Contrast | None = None,
    given: Left | Start | None = None,
) -> Steps:
    """What is computed before the steps of `denoise`."""
    net, params = MMDiT(model.config.mmdit, model.compute_dtype), variables(model.params)
    times = jnp.asarray(schedule, jnp.float32)
    conditioning = with_reference_keys(net, params, conditioning, token_grid(noise))
    now = modulations(net, params, times[:-1], conditioning)
    plain_now = contrast and modulations(net, params, times[:-1], contrast.plain)
    acts = None if contrast is None or contrast.acts is None else jnp.asarray(contrast.acts)
    return Steps(noise, conditioning, contrast, given, (times[:-1], times[1:], now, plain_now, acts))


def first_tokens(steps: Steps) -> Float[Array, "b l c"]:
    """The state that the first step begins with."""
    x0 = pack(steps.noise).astype(jnp.float32)
    return _noised(steps, steps.given.latent, steps.each[0][0]) if isinstance(steps.given, Start) else x0


def take_step(model: Model, steps: Steps, x: Float[Array, "b l c"], each: Any) -> Float[Array, "b l c"]:
    """The state after one step, whose own part of `steps.each` is given."""
    net, params = MMDiT(model.config.mmdit, model.compute_dtype), variables(model.params)
    size, contrast = token_grid(steps.noise), steps.contrast
    t, t_next, now, plain_now, acts = each

    def predicted(x: Array, now: Modulations, given: Conditioning) -> Array:
        return velocity(net, params, x, size, now, given).astype(jnp.float32)

    v = predicted(_with_left(steps, x, 0.0), now, steps.conditioning)
    if contrast is not None and plain_now is not None:

        def guided(v: Array) -> Array:
            v_plain = predicted(_with_left(steps, x, t), plain_now, contrast.plain)
            return v_plain + contrast.scale * (v - v_plain)

        v = guided(v) if acts is None else jax.lax.cond(acts, guided, lambda v: v, v)
    return _put_back(steps, flow.euler_step(x, v, t, t_next), t_next)


def last_tokens(steps: Steps, x: Float[Array, "b l c"]) -> Float[Array, "b l c"]:
    """The picture's tokens from the state after the last step."""
    return _with_left(steps, x, 0.0)


def _noised(steps: Steps, latent: Array | Any, t: Array | float) -> Array:
    """A latent's tokens with the drawing's noise of time t."""
    x0, x1 = (pack(part).astype(jnp.float32) for part in (steps.noise, latent))
    return flow.interpolate(x1, x0, jnp.full(len(x0), t))


def _with_left(steps: Steps, x: Array, t: Array | float) -> Array:
    """`x` with a given left half noised to time t."""
    if not isinstance(steps.given, Left):
        return x
    left = steps.given.latent
    latent = jnp.asarray(steps.noise).at[:, :, : left.shape[2]].set(left)
    return jnp.where(left_half(token_grid(steps.noise))[:, None], _noised(steps, latent, t), x)


def _put_back(steps: Steps, x: Array, t: Array) -> Array:
    """`x` with what inpainting keeps of the start noised to time t."""
    if not isinstance(steps.given, Start) or steps.given.redrawn is None:
        return x
    latent = jnp.asarray(steps.given.latent)
    redrawn = pack(jnp.broadcast_to(steps.given.redrawn, latent.shape))
    return redrawn * x + (1 - redrawn) * _noised(steps, latent, t)
