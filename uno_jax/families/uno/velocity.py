"""The velocity of a noisy picture given its conditioning, and the loop of Euler steps that denoises it."""

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from uno_jax.families import flow
from uno_jax.families.latents import TokenSize, pack, token_grid
from uno_jax.families.model import Model
from uno_jax.families.uno.positions import left_half, position_ids
from uno_jax.families.uno.types import Conditioning
from uno_jax.networks.mmdit import MMDiT, MMDiTInputs, Modulations
from uno_jax.support.trees import AnyArray, Params


class Contrast(NamedTuple):
    """Classifier-free guidance (arXiv 2207.12598; diffusers' true_cfg_scale) away from the prediction for
    `plain`, the empty prompt without references. It doubles the work.
    """

    plain: Conditioning
    scale: float | Array


def variables(params: dict[str, Params]) -> dict[str, Params]:
    """The MM-DiT's Flax variables from a model's parameters, with "lora" if the model has a side path."""
    return {"params": params["mmdit"]} | ({"lora": params["lora"]} if "lora" in params else {})


def velocity(
    net: MMDiT,
    variables: dict[str, Params],
    x: Float[Array, "b l c"],
    size: TokenSize,
    t: Float[Array, "b"] | Modulations,
    conditioning: Conditioning,
) -> Float[Array, "b l c"]:
    """The velocity of the target's tokens `x` (rows, columns = `size`), with the references' tokens appended
    to them, at times `t` or with the modulations of those times. Positions follow from the shapes.
    """
    given = conditioning
    ids = position_ids(given.txt.shape[1], size, [token_grid(ref) for ref in given.refs], given.unope)
    ref = jnp.concatenate([pack(ref) for ref in given.refs], axis=1) if given.refs else None
    guidance = given.guidance if net.config.guidance_embed else None
    inputs = MMDiTInputs(x, given.txt, given.vec, t, ids, ref, guidance)
    return cast(Array, net.apply(variables, inputs))


def modulations(
    net: MMDiT, variables: dict[str, Params], times: Float[Array, "n"], conditioning: Conditioning
) -> Modulations:
    """The modulations of every time, with a leading axis for the times."""
    vec = conditioning.vec
    guidance = conditioning.guidance if net.config.guidance_embed else None

    def at(t: Float[Array, ""]) -> Modulations:
        each = jnp.full(len(vec), t)
        return cast(Modulations, net.apply(variables, vec, each, guidance, method=MMDiT.modulations))

    return jax.vmap(at)(times)


def denoise(
    model: Model,
    noise: Float[AnyArray, "b h w z"],
    conditioning: Conditioning,
    schedule: Float[AnyArray, "points"],
    contrast: Contrast | None = None,
    left: Float[AnyArray, "b h w/2 z"] | None = None,
) -> Float[Array, "b l c"]:
    """The tokens after all Euler steps from `noise` (UNO `sampling.py` denoise), in one scan, the modulations
    of all steps computed before. The state stays in float32; the network computes in the model's dtype.

    With `left`, the latent of a diptych's left half, only the right half is generated: the left is shown
    without noise, but to the plain prediction as noisy as the rest (diptych prompting, arXiv 2411.15466).
    """
    net, params, size = (
        MMDiT(model.config.mmdit, model.compute_dtype),
        variables(model.params),
        token_grid(noise),
    )
    x0 = pack(noise).astype(jnp.float32)
    given = noise if left is None else jnp.asarray(noise).at[:, :, : left.shape[2]].set(left)
    x1 = pack(given).astype(jnp.float32)
    is_left = left_half(size)[:, None]

    def with_left(x: Array, t: Array | float) -> Array:
        """`x` with the given half noised to time t."""
        if left is None:
            return x
        return jnp.where(is_left, flow.interpolate(x1, x0, jnp.full(x.shape[0], t)), x)

    def predicted(x: Array, now: Modulations, given: Conditioning) -> Array:
        return velocity(net, params, x, size, now, given).astype(jnp.float32)

    def step(x: Array, each: tuple[Array, Array, Modulations, Modulations | None]) -> tuple[Array, None]:
        t, t_next, now, plain_now = each
        v = predicted(with_left(x, 0.0), now, conditioning)
        if contrast is not None and plain_now is not None:
            v_plain = predicted(with_left(x, t), plain_now, contrast.plain)
            v = v_plain + contrast.scale * (v - v_plain)
        return flow.euler_step(x, v, t, t_next), None

    times = jnp.asarray(schedule, jnp.float32)
    now = modulations(net, params, times[:-1], conditioning)
    plain_now = contrast and modulations(net, params, times[:-1], contrast.plain)
    tokens, _ = jax.lax.scan(step, x0, (times[:-1], times[1:], now, plain_now))
    return with_left(tokens, 0.0)
