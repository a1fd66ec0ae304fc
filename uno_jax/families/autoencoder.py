"""The autoencoder's objective, shared by every family that works in its latents."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from uno_jax.families.family import Loss
from uno_jax.networks.registry import apply
from uno_jax.networks.vae import Autoencoder, VAEConfig, posterior_sample
from uno_jax.support.trees import AnyArray, Params


class Reconstruction(NamedTuple):
    """A picture decoded from a sample of its posterior, and the posterior's moments, in float32."""

    decoded: Float[Array, "b h w 3"]
    moments: Float[Array, "b h2 w2 m"]


def make_loss(config: Any, model: Any) -> Loss:
    """The loss of a batch's targets for a recipe (`training.config.TrainConfig`)."""
    dtype = jnp.dtype(config.dtype)

    def loss(params: dict[str, Params], batch: Any, key: jax.Array) -> Float[Array, ""]:
        found = reconstruct(model.vae, params["vae"], batch.target, key, dtype)
        return reconstruction_loss(found, batch.target, float(config.kl_weight))

    return loss


def reconstruct(
    vae: VAEConfig, params: Params, image: Float[AnyArray, "b h w 3"], key: jax.Array, dtype: DTypeLike
) -> Reconstruction:
    """Encodes and decodes pictures in [-1, 1]."""
    variables = {"params": params}
    encoded = apply(vae, variables, image, dtype=dtype, method=Autoencoder.encode)
    moments = encoded.astype(jnp.float32)
    latent = posterior_sample(vae, moments, key)
    decoded = apply(vae, variables, latent, dtype=dtype, method=Autoencoder.decode)
    return Reconstruction(decoded.astype(jnp.float32), moments)


def reconstruction_loss(
    found: Reconstruction, image: Float[AnyArray, "b h w 3"], kl_weight: float
) -> Float[Array, ""]:
    """Absolute and squared error of the decoded picture, and the posterior's divergence from N(0, 1)."""
    mean, log_variance = jnp.split(found.moments, 2, axis=-1)
    kl = 0.5 * jnp.mean(jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance)
    error: Array = found.decoded - image
    reconstruction = jnp.mean(jnp.abs(error)) + 2 * jnp.mean(jnp.square(error))
    return reconstruction + kl_weight * kl
