"""Prompts and pictures to what the MM-DiT sees: token ids -> (txt, vec), pictures -> latents.

An encoding from a cache (`data.cached_encodings`) may stand in for what it was made from: its network is
then neither run nor needed.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from uno_jax.families.uno.types import AnyArray, Batch, Conditioning, Model
from uno_jax.networks.registry import apply
from uno_jax.networks.vae import Autoencoder, posterior_mean, posterior_sample


def is_encoded(part: AnyArray) -> bool:
    """Whether a part of a Batch is an encoding already, and neither pictures nor token ids."""
    return part.shape[-1] != 3 if part.ndim == 4 else jnp.issubdtype(part.dtype, jnp.floating)


def encode_t5(model: Model, tokens: Int[AnyArray, "b s"], dtype: Any = jnp.float32) -> Float[Array, "b s d"]:
    """T5's hidden states."""
    return apply(model.config.t5, {"params": model.params["t5"]}, tokens, dtype=dtype)


def encode_clip(model: Model, tokens: Int[AnyArray, "b 77"], dtype: Any = jnp.float32) -> Float[Array, "b v"]:
    """CLIP's pooled output."""
    return apply(model.config.clip, {"params": model.params["clip"]}, tokens, dtype=dtype)


def encode_vae(
    model: Model, image: Float[AnyArray, "b h w 3"], dtype: Any = jnp.float32
) -> Float[Array, "b h/f w/f 2*z"]:
    """Mean and log variance of the autoencoder's posterior."""
    params = {"params": model.params["vae"]}
    return apply(model.config.vae, params, image, dtype=dtype, method=Autoencoder.encode)


def encode_text(
    model: Model,
    txt: Int[AnyArray, "b s"] | Float[AnyArray, "b s d"],
    vec: Int[AnyArray, "b 77"] | Float[AnyArray, "b v"],
    dtype: Any = jnp.float32,
) -> tuple[Float[Array, "b s d"], Float[Array, "b v"]]:
    """T5's hidden states (txt) and CLIP's pooled output (vec), of token ids or as they are."""
    return (
        jnp.asarray(txt, dtype) if is_encoded(txt) else encode_t5(model, txt, dtype),
        jnp.asarray(vec, dtype) if is_encoded(vec) else encode_clip(model, vec, dtype),
    )


def encode_image(
    model: Model,
    image: Float[AnyArray, "b h w 3"] | Float[AnyArray, "b h/f w/f 2*z"],
    key: jax.Array | None = None,
    dtype: Any = jnp.float32,
) -> Float[Array, "b h/f w/f z"]:
    """The scaled latent of pictures or of their moments: drawn from the posterior with a key (training), its
    mean without (sampling).
    """
    moments = jnp.asarray(image if is_encoded(image) else encode_vae(model, image, dtype), jnp.float32)
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
    """A training batch's target latent and conditioning, every latent drawn from its posterior: the same for
    pictures and for their cached moments.
    """
    txt, vec = encode_text(model, batch.txt, batch.vec, dtype)
    keys = jax.random.split(key, 1 + len(batch.refs))
    target = encode_image(model, batch.target, keys[0], dtype)
    refs = tuple(encode_image(model, ref, k, dtype) for ref, k in zip(batch.refs, keys[1:], strict=True))
    return target, Conditioning(txt, vec, refs)
