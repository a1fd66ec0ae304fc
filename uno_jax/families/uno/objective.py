"""UNO's objective (section 3.1): rectified flow over the target's tokens, given noise-free references."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import reduce
from jaxtyping import Array, Bool, Float, UInt8

from uno_jax.families.family import Loss
from uno_jax.families.flow import interpolate, sample_times
from uno_jax.families.latents import TokenSize, pack, token_grid
from uno_jax.families.model import Model
from uno_jax.families.uno.conditioning import encode
from uno_jax.families.uno.config import ModelConfig
from uno_jax.families.uno.positions import left_half
from uno_jax.families.uno.types import Batch, Conditioning
from uno_jax.families.uno.velocity import variables, velocity
from uno_jax.networks.mmdit import MMDiT
from uno_jax.support.trees import AnyArray, Params


class Noised(NamedTuple):
    """A latent, the noise it is mixed with, and the times. Tokens that are `given` stay without noise;
    `weight` is that of each token's error, by default 1.
    """

    latent: Float[Array, "b h w z"]
    noise: Float[Array, "b h w z"]
    t: Float[Array, "b"]
    given: Bool[Array, "b l"] | None = None
    weight: Float[Array, "b l"] | None = None


def make_loss(config: Any, model: ModelConfig) -> Loss:
    """The loss of a batch for a recipe (`training.config.TrainConfig`)."""
    net = MMDiT(model.mmdit, jnp.dtype(config.dtype), config.remat, config.unroll)

    def loss(params: dict[str, Params], batch: Batch, key: jax.Array) -> Float[Array, ""]:
        encode_key, time_key, noise_key, half_key = jax.random.split(key, 4)
        here = Model(model, params, dtype=config.dtype)
        latent, conditioning = encode(here, batch, encode_key, config.unope, config.guidance)
        t = sample_times(time_key, len(latent), config.data.resolution)
        noise = jax.random.normal(noise_key, latent.shape)
        size = token_grid(latent)
        given = given_half(half_key, len(latent), size, config.completion)
        weight = None if batch.mask is None else token_weights(batch.mask, size, config.data.mask_weight)
        return flow_loss(net, variables(params), Noised(latent, noise, t, given, weight), conditioning)

    return loss


def flow_loss(
    net: MMDiT, variables: dict[str, Params], sample: Noised, conditioning: Conditioning
) -> Float[Array, ""]:
    """Mean squared error in float32 of the velocity at x_t = (1 - t) x1 + t x0 against x0 - x1, over the
    target's tokens by their weights. Tokens that are `given` are seen without noise and do not count.
    """
    x1, x0, given = pack(sample.latent), pack(sample.noise), sample.given
    x_t = interpolate(x1, x0, sample.t)
    if given is not None:
        x_t = jnp.where(given[..., None], x1, x_t)
    v = velocity(net, variables, x_t, token_grid(sample.latent), sample.t, conditioning)
    error = jnp.square(v.astype(jnp.float32) - (x0 - x1).astype(jnp.float32))
    if sample.weight is None:
        return jnp.mean(error, where=None if given is None else ~given[..., None])
    weight = sample.weight if given is None else jnp.where(given, 0, sample.weight)
    return jnp.sum(error.mean(-1) * weight) / jnp.sum(weight)


def token_weights(mask: UInt8[AnyArray, "b h8 w8"], size: TokenSize, weight: float) -> Float[Array, "b l"]:
    """The weight of each token's error: `weight` where the mask is white (255), 1 where it is black."""
    white = reduce(jnp.asarray(mask, jnp.float32), "b (h y) (w x) -> b (h w)", "mean", h=size[0], w=size[1])
    return 1 + (weight - 1) / 255 * white


def given_half(key: jax.Array, batch: int, size: TokenSize, share: float) -> Bool[Array, "b l"] | None:
    """Mask of the given tokens: the left or right half in a fraction `share` of diptychs, pictures at least
    twice as wide as high. None for other pictures.
    """
    rows, columns = size
    if not share or columns < 2 * rows:
        return None
    share_key, side_key = jax.random.split(key)
    half: Array = left_half(size) == jax.random.bernoulli(side_key, 0.5, (batch, 1))
    return half & jax.random.bernoulli(share_key, share, (batch, 1))
