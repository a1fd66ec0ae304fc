"""The loop of Euler steps that denoises a picture: with guidance, with a part that is given, from a start."""

from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from uno_jax.families import flow
from uno_jax.families.latents import pack, token_grid
from uno_jax.families.model import Model
from uno_jax.families.skipping import Computed, add, extrapolate, none_computed
from uno_jax.families.uno.positions import left_half
from uno_jax.families.uno.types import Conditioning
from uno_jax.families.uno.velocity import modulations, variables, velocity, with_reference_keys
from uno_jax.networks.mmdit import MMDiT, Modulations
from uno_jax.support.trees import AnyArray


class Contrast(NamedTuple):
    """Classifier-free guidance (arXiv 2207.12598; diffusers' true_cfg_scale) away from the prediction for
    `plain`, a negative or the empty prompt without references. It adds to the work of the steps where it
    `acts`, None for all.

    With two `scales`, of the prompt and of references (InstructPix2Pix, arXiv 2211.09800, section 3.2.1),
    `plain` holds the samples twice: for the negative, then for the prompts themselves. Each scale leads from
    one prediction to the next, and the last to the picture's.
    """

    plain: Conditioning
    scales: tuple[float | Array, ...]
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


class Schedule(NamedTuple):
    """The times of a drawing, and which of its steps are computed (`families.skipping`), None for all."""

    times: Float[AnyArray, "points"]
    computed: Bool[AnyArray, "points-1"] | None = None


class Step(NamedTuple):
    """What is a step's own: its time and the next, its modulations and those of the plain prediction, whether
    guidance acts, and whether it is computed.
    """

    t: Array
    t_next: Array
    now: Modulations
    plain_now: Modulations | None
    acts: Array | None
    computed: Array | None


class State(NamedTuple):
    """What a step passes on: the tokens, and where steps are left out the velocities computed last."""

    x: Float[Array, "b l c"]
    past: Computed | None


class Steps(NamedTuple):
    """What the steps of a drawing share, and in `each` what is a step's own, with a leading axis."""

    noise: Float[AnyArray, "b h w z"]
    conditioning: Conditioning
    contrast: Contrast | None
    given: Left | Start | None
    each: Step


def denoise(
    model: Model,
    noise: Float[AnyArray, "b h w z"],
    conditioning: Conditioning,
    schedule: Schedule | Float[AnyArray, "points"],
    contrast: Contrast | None = None,
    given: Left | Start | None = None,
) -> Float[Array, "b l c"]:
    """The tokens after all Euler steps from `noise` (UNO `sampling.py` denoise), in one scan, the modulations
    of all steps computed before. The state stays in float32; the network computes in the model's dtype.
    """
    steps = prepare(model, noise, conditioning, schedule, contrast, given)

    def step(state: State, each: Step) -> tuple[State, None]:
        return take_step(model, steps, state, each), None

    state, _ = jax.lax.scan(step, first_state(steps), steps.each)
    return last_tokens(steps, state)


def prepare(
    model: Model,
    noise: Float[AnyArray, "b h w z"],
    conditioning: Conditioning,
    schedule: Schedule | Float[AnyArray, "points"],
    contrast: Contrast | None = None,
    given: Left | Start | None = None,
) -> Steps:
    """What is computed before the steps of `denoise`."""
    net, params = MMDiT(model.config.mmdit, model.compute_dtype), variables(model.params)
    whole = schedule if isinstance(schedule, Schedule) else Schedule(schedule)
    times = jnp.asarray(whole.times, jnp.float32)
    conditioning = with_reference_keys(net, params, conditioning, token_grid(noise))
    now = modulations(net, params, times[:-1], conditioning)
    plain_now = contrast and modulations(net, params, times[:-1], contrast.plain)
    acts = None if contrast is None or contrast.acts is None else jnp.asarray(contrast.acts)
    computed = None if whole.computed is None else jnp.asarray(whole.computed)
    return Steps(
        noise, conditioning, contrast, given, Step(times[:-1], times[1:], now, plain_now, acts, computed)
    )


def first_state(steps: Steps) -> State:
    """The state that the first step begins with."""
    x = pack(steps.noise).astype(jnp.float32)
    if isinstance(steps.given, Start):
        x = _noised(steps, steps.given.latent, steps.each.t[0])
    return State(x, None if steps.each.computed is None else none_computed(x))


def take_step(model: Model, steps: Steps, state: State, each: Step) -> State:
    """The state after one step, whose own part of `steps.each` is given."""
    x, past = state
    if past is None:
        v = guided_velocity(model, steps, x, each)
    else:

        def compute(past: Computed) -> tuple[Array, Computed]:
            v = guided_velocity(model, steps, x, each)
            return v, add(past, each.t, v)

        def leave_out(past: Computed) -> tuple[Array, Computed]:
            return extrapolate(past, each.t), past

        v, past = jax.lax.cond(each.computed, compute, leave_out, past)
    return State(_put_back(steps, flow.euler_step(x, v, each.t, each.t_next), each.t_next), past)


def guided_velocity(
    model: Model, steps: Steps, x: Float[Array, "b l c"], each: Step
) -> Float[Array, "b l c"]:
    """The velocity of a step, led away from the plain prediction where guidance acts."""
    net, params = MMDiT(model.config.mmdit, model.compute_dtype), variables(model.params)
    size, contrast, plain_now = token_grid(steps.noise), steps.contrast, each.plain_now

    def predicted(x: Array, now: Modulations, given: Conditioning) -> Array:
        return velocity(net, params, x, size, now, given).astype(jnp.float32)

    v = predicted(_with_left(steps, x, 0.0), each.now, steps.conditioning)
    if contrast is None or plain_now is None:
        return v

    def guided(v: Array) -> Array:
        count = len(contrast.scales)
        shown = jnp.concatenate([_with_left(steps, x, each.t)] * count)
        chain = [*jnp.split(predicted(shown, plain_now, contrast.plain), count), v]
        pairs = zip(contrast.scales, pairwise(chain), strict=True)
        return sum((scale * (after - before) for scale, (before, after) in pairs), start=chain[0])

    return guided(v) if each.acts is None else jax.lax.cond(each.acts, guided, lambda v: v, v)


def last_tokens(steps: Steps, state: State) -> Float[Array, "b l c"]:
    """The picture's tokens from the state after the last step."""
    return _with_left(steps, state.x, 0.0)


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
