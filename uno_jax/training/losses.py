"""The objectives: UNO's flow matching, and the autoencoder's reconstruction. Pure functions of parameters
and a batch.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from uno_jax.families import flow
from uno_jax.families.uno.conditioning import encode
from uno_jax.families.uno.positions import PATCH, pack
from uno_jax.families.uno.types import AnyArray, Batch, Conditioning, Model
from uno_jax.families.uno.velocity import velocity
from uno_jax.networks.config import ModelConfig, UnoPE, VAEConfig
from uno_jax.networks.mmdit import MMDiT
from uno_jax.networks.registry import Params, apply
from uno_jax.networks.vae import Autoencoder, posterior_sample
from uno_jax.training.config import TrainConfig

Loss = Callable[[dict[str, Params], Batch, jax.Array], Float[Array, ""]]


def flow_loss(
    net: MMDiT,
    variables: dict[str, Params],
    latent: Float[Array, "b h w z"],
    noise: Float[Array, "b h w z"],
    t: Float[Array, "b"],
    conditioning: Conditioning,
    guidance: float,
    unope: UnoPE,
    given: Bool[Array, "b l"] | None = None,
) -> Float[Array, ""]:
    """UNO's objective (section 3.1): the velocity at x_t = (1 - t) x1 + t x0 against x0 - x1, over the
    target's tokens. Those `given` are seen without noise and do not count.
    """
    x1, x0 = pack(latent), pack(noise)
    size = (latent.shape[1] // PATCH, latent.shape[2] // PATCH)
    strength = jnp.full(t.shape, guidance) if net.config.guidance_embed else None
    x_t = flow.interpolate(x1, x0, t)
    if given is not None:
        x_t = jnp.where(given[..., None], x1, x_t)
    v = velocity(net, variables, x_t, size, conditioning, t, strength, unope)
    return flow.velocity_loss(v, x1, x0, None if given is None else ~given)


def given_half(key: jax.Array, latent: Float[Array, "b h w z"], share: float) -> Bool[Array, "b l"] | None:
    """The tokens of the left or right half in this share of diptychs, pictures at least twice as wide as
    high; None for others.
    """
    batch, rows, columns = latent.shape[0], latent.shape[1] // PATCH, latent.shape[2] // PATCH
    if not share or columns < 2 * rows:
        return None
    share_key, side_key = jax.random.split(key)
    left = jnp.tile(jnp.arange(columns) < columns // 2, rows)
    half = left == jax.random.bernoulli(side_key, 0.5, (batch, 1))
    return half & jax.random.bernoulli(share_key, share, (batch, 1))


def autoencoder_loss(
    config: VAEConfig,
    params: Params,
    image: Float[AnyArray, "b h w 3"],
    key: jax.Array,
    kl_weight: float,
    dtype: Any,
) -> Float[Array, ""]:
    """Absolute error of the picture decoded from a posterior sample, plus the posterior's divergence from
    N(0, 1).
    """
    moments = apply(config, {"params": params}, image, dtype=dtype, method=Autoencoder.encode).astype(
        jnp.float32
    )
    latent = posterior_sample(config, moments, key)
    decoded = apply(config, {"params": params}, latent, dtype=dtype, method=Autoencoder.decode)
    mean, log_variance = jnp.split(moments, 2, axis=-1)
    kl = 0.5 * jnp.mean(jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance)
    error = decoded.astype(jnp.float32) - image
    return jnp.mean(jnp.abs(error)) + 2 * jnp.mean(jnp.square(error)) + kl_weight * kl


def make_loss(config: TrainConfig, model: ModelConfig) -> Loss:
    """The loss of a batch given every parameter tree by name, for the recipe's objective."""
    dtype = jnp.dtype(config.dtype)
    net = MMDiT(model.mmdit, dtype, config.remat, config.unroll)
    schedule = flow.training_schedule(config.data.resolution)

    def autoencoder(params: dict[str, Params], batch: Batch, key: jax.Array) -> Float[Array, ""]:
        return autoencoder_loss(model.vae, params["vae"], batch.target, key, config.kl_weight, dtype)

    def rectified_flow(params: dict[str, Params], batch: Batch, key: jax.Array) -> Float[Array, ""]:
        encode_key, time_key, noise_key, half_key = jax.random.split(key, 4)
        latent, conditioning = encode(Model(model, params), batch, encode_key, dtype)
        t = jnp.asarray(schedule)[flow.draw_times(time_key, latent.shape[0])]
        noise = jax.random.normal(noise_key, latent.shape)
        variables = {"params": params["mmdit"]} | ({"lora": params["lora"]} if "lora" in params else {})
        given = given_half(half_key, latent, config.completion)
        guidance, unope = config.guidance, config.unope
        return flow_loss(net, variables, latent, noise, t, conditioning, guidance, unope, given)

    objective = autoencoder if config.objective == "autoencoder" else rectified_flow

    def loss(params: dict[str, Params], batch: Batch, key: jax.Array) -> Float[Array, ""]:
        with jax.default_matmul_precision(config.precision or None):
            return objective(params, batch, key)

    return loss
