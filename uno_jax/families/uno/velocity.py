"""The velocity of a noisy picture given its conditioning."""

from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from uno_jax.families.latents import TokenSize, pack, token_grid
from uno_jax.families.uno.positions import position_ids
from uno_jax.families.uno.types import Conditioning
from uno_jax.networks.mmdit import MMDiT, MMDiTInputs, Modulations
from uno_jax.networks.mmdit_blocks import ReferenceKeys
from uno_jax.support.trees import Params


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
    to them, at times `t` or with the modulations of those times. Positions follow from the shapes. With
    `UnoPE.reference_cache` the references' keys and values come first, unless the conditioning has them.
    """
    inputs = mmdit_inputs(net, variables, x, size, t, conditioning)
    return cast(Array, net.apply(variables, inputs))


def mmdit_inputs(
    net: MMDiT,
    variables: dict[str, Params],
    x: Float[Array, "b l c"],
    size: TokenSize,
    t: Float[Array, "b"] | Modulations,
    conditioning: Conditioning,
) -> MMDiTInputs:
    """The inputs for `velocity` of the same arguments."""
    given = with_reference_keys(net, variables, conditioning, size)
    ids = position_ids(given.txt.shape[1], size, [token_grid(ref) for ref in given.refs], given.unope)
    ref: Array | ReferenceKeys | None = _reference_tokens(given) if given.refs else None
    if given.keys is not None:
        ref, ids = given.keys, ids[: given.txt.shape[1] + x.shape[1]]
    guidance = given.guidance if net.config.guidance_embed else None
    return MMDiTInputs(x, given.txt, given.vec, t, ids, ref, guidance)


def with_reference_keys(
    net: MMDiT, variables: dict[str, Params], conditioning: Conditioning, size: TokenSize
) -> Conditioning:
    """The conditioning of a target of `size` with its references' keys and values, modulated as at time 0,
    where its convention has them (as FLUX.2-klein's KV cache and OminiControl2, arXiv 2503.08280).
    """
    given = conditioning
    if not (given.refs and given.unope.reference_cache) or given.keys is not None:
        return given
    ids = position_ids(0, size, [token_grid(ref) for ref in given.refs], given.unope)[size[0] * size[1] :]
    clean = jax.tree.map(lambda leaf: leaf[0], modulations(net, variables, jnp.zeros(1), given))
    keys = net.apply(variables, _reference_tokens(given), ids, clean, method=MMDiT.references)
    return given._replace(keys=cast(ReferenceKeys, keys))


def _reference_tokens(given: Conditioning) -> Float[Array, "b r c"]:
    return jnp.concatenate([pack(ref) for ref in given.refs], axis=1)


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
