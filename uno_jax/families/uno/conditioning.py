"""Prompts to the MM-DiT's conditioning: token ids -> (txt, vec); with pictures, a training batch to it.

A cached encoding (`data.cached_encodings`) may replace its source; its network is then not needed.
Every function is compiled when called on its own, for the latest few shapes (`bounded_jit`), and inlined when
called from a jitted function.
"""

from collections.abc import Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from uno_jax.families.family import BatchParts
from uno_jax.families.latents import encode_image, is_encoded
from uno_jax.families.model import Model
from uno_jax.families.uno.config import ModelConfig, UnoPE
from uno_jax.families.uno.types import Batch, Conditioning
from uno_jax.networks.registry import apply
from uno_jax.support.bounded_jit import bounded_jit
from uno_jax.support.trees import AnyArray
from uno_jax.tokenizers import Cut, clip_tokens, t5_cut, t5_tokens


def tokenize(config: ModelConfig, prompts: Sequence[str]) -> dict[str, Int[np.ndarray, "b l"]]:
    """Token ids of prompts for T5 and CLIP, padded or truncated to their lengths."""
    return {"t5": t5_tokens(prompts, config.t5.length), "clip": clip_tokens(prompts)}


def prompt_cut(config: ModelConfig, prompt: str) -> Cut | None:
    """What T5 drops of a prompt. CLIP's shorter limit of 77 is left out: it makes one vector of the
    beginning, and the MM-DiT reads the whole prompt from T5's tokens.
    """
    return t5_cut(prompt, config.t5.length)


def make_batch(config: ModelConfig, parts: BatchParts) -> Batch:
    """The training batch of what was read; prompts become token ids unless their encodings are cached."""
    tokens = {} if {"t5", "clip"} <= parts.texts.keys() else tokenize(config, parts.prompts)
    texts = tokens | dict(parts.texts)
    return Batch(parts.target, parts.refs, texts["t5"], texts["clip"], parts.mask)


@bounded_jit
def encode_t5(model: Model, tokens: Int[AnyArray, "b s"]) -> Float[Array, "b s d"]:
    """T5's hidden states."""
    params = {"params": model.params["t5"]}
    return cast(Array, apply(model.config.t5, params, tokens, dtype=model.compute_dtype))


@bounded_jit
def encode_clip(model: Model, tokens: Int[AnyArray, "b 77"]) -> Float[Array, "b v"]:
    """CLIP's pooled output."""
    params = {"params": model.params["clip"]}
    return cast(Array, apply(model.config.clip, params, tokens, dtype=model.compute_dtype))


@bounded_jit
def encode_text(
    model: Model,
    txt: Int[AnyArray, "b s"] | Float[AnyArray, "b s d"],
    vec: Int[AnyArray, "b 77"] | Float[AnyArray, "b v"],
) -> tuple[Float[Array, "b s d"], Float[Array, "b v"]]:
    """T5's hidden states (txt) and CLIP's pooled output (vec) of token ids; cached encodings are kept."""
    dtype = model.compute_dtype
    return (
        jnp.asarray(txt, dtype) if is_encoded(txt) else encode_t5(model, txt),
        jnp.asarray(vec, dtype) if is_encoded(vec) else encode_clip(model, vec),
    )


def encode(
    model: Model, batch: Batch, key: jax.Array, unope: UnoPE = UnoPE(), guidance: float = 1.0
) -> tuple[Float[Array, "b h w z"], Conditioning]:
    """A training batch's target latent and conditioning. Every latent is a sample of its posterior, equal for
    pictures and for their cached moments.
    """
    txt, vec = encode_text(model, batch.txt, batch.vec)
    keys = jax.random.split(key, 1 + len(batch.refs))
    target = encode_image(model, batch.target, keys[0])
    refs = tuple(encode_image(model, ref, k) for ref, k in zip(batch.refs, keys[1:], strict=True))
    return target, Conditioning(txt, vec, refs, jnp.full(len(target), guidance), unope)
