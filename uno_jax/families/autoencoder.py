"""The autoencoder's objective, shared by every family that works in its latents."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from uno_jax.families.family import Loss
from uno_jax.networks.registry import apply
from uno_jax.networks.vae import Autoencoder, posterior_sample
from uno_jax.support.trees import Params


def make_loss(config: Any, model: Any) -> Loss:
    """The loss of a batch's targets for a recipe (`training.config.TrainConfig`): absolute and squared error
    of the picture decoded from a posterior sample, and the posterior's divergence from N(0, 1).
    """
    dtype = jnp.dtype(config.dtype)

    def loss(params: dict[str, Params], batch: Any, key: jax.Array) -> Float[Array, ""]:
        variables, image = {"params": params["vae"]}, batch.target
        encoded = apply(model.vae, variables, image, dtype=dtype, method=Autoencoder.encode)
        moments = encoded.astype(jnp.float32)
        latent = posterior_sample(model.vae, moments, key)
        decoded = apply(model.vae, variables, latent, dtype=dtype, method=Autoencoder.decode)
        mean, log_variance = jnp.split(moments, 2, axis=-1)
        kl = 0.5 * jnp.mean(jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance)
        error: Array = decoded.astype(jnp.float32) - image
        reconstruction = jnp.mean(jnp.abs(error)) + 2 * jnp.mean(jnp.square(error))
        return reconstruction + float(config.kl_weight) * kl

    return loss
