"""Prompts and pictures to what the MM-DiT sees: token ids -> (txt, vec), pictures -> latents."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from uno_jax.models import apply
from uno_jax.models.vae import Autoencoder, posterior_mean, posterior_sample
from uno_jax.types import AnyArray, Batch, Conditioning, Model


def encode_text(
    model: Model,
    t5_tokens: Int[AnyArray, "b s"],
    clip_tokens: Int[AnyArray, "b 77"],
    dtype: Any = jnp.float32,
) -> tuple[Float[Array, "b s d"], Float[Array, "b v"]]:
    """T5's hidden states (txt) and CLIP's pooled output (vec)."""
    txt = apply(model.config.t5, {"params": model.params["t5"]}, t5_tokens, dtype=dtype)
    vec = apply(model.config.clip, {"params": model.params["clip"]}, clip_tokens, dtype=dtype)
    return txt, vec


def encode_image(
    model: Model, image: Float[AnyArray, "b h w 3"], key: jax.Array | None = None, dtype: Any = jnp.float32
) -> Float[Array, "b h/f w/f z"]:
    """The scaled latent: drawn from the posterior with a key (training), its mean without (sampling)."""
    params = {"params": model.params["vae"]}
    moments = apply(model.config.vae, params, image, dtype=dtype, method=Autoencoder.encode)
    moments = moments.astype(jnp.float32)
    if key is None:
        return posterior_mean(model.config.vae, moments)
    return posterior_sample(model.config.vae, moments, key)


def decode_image(
    model: Model, latent: Float[Array, "b h w z"], dtype: Any = jnp.float32
) -> Float[Array, "b H W 3"]:
    """Pictures, not yet clamped to [-1, 1]."""
    params = {"params": model.params["vae"]}
    picture = apply(model.config.vae, params, latent, dtype=dtype, method=Autoencoder.decode)
    return picture.astype(jnp.float32)


def encode(
    model: Model, batch: Batch, key: jax.Array, dtype: Any = jnp.float32
) -> tuple[Float[Array, "b h w z"], Conditioning]:
    """A training batch's target latent and conditioning, every latent drawn from its posterior."""
    txt, vec = encode_text(model, batch.t5_tokens, batch.clip_tokens, dtype)
    keys = jax.random.split(key, 1 + len(batch.refs))
    target = encode_image(model, batch.target, keys[0], dtype)
    refs = tuple(encode_image(model, ref, k, dtype) for ref, k in zip(batch.refs, keys[1:], strict=True))
    return target, Conditioning(txt, vec, refs)
