"""Attention on GPUs: cuDNN's flash kernel where it can be had, otherwise XLA."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

WIDEST = 128  # of a head
STEP = 8  # the multiple that a head's width must be of


def cudnn_attention(
    q: Float[Array, "b l h d"],
    k: Float[Array, "b s n d"],
    v: Float[Array, "b s n d"],
    keys: Bool[Array, "b s"] | None,
    scale: float,
) -> Float[Array, "b l h d"]:
    """Softmax attention in half precision by cuDNN. JAX refuses the gradient of its kernel for odd lengths,
    such as 101 tokens; these, wide heads and float32 are left to XLA.

    The kernel has no mask of keys but takes a number of them, so the visible keys are moved to the front:
    their order does not matter.
    """
    width, lengths = q.shape[-1], (q.shape[1], k.shape[1])
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    fits = width <= WIDEST and width % STEP == 0 and not any(length % 2 for length in lengths)
    implementation: Literal["cudnn", "xla"] = "cudnn" if half and fits else "xla"
    seen = None
    if keys is not None:
        order = jnp.argsort(~keys, axis=1, stable=True)[:, :, None, None]
        k, v = (jnp.take_along_axis(x, order, axis=1) for x in (k, v))
        seen = keys.sum(1, dtype=jnp.int32)
    return jax.nn.dot_product_attention(
        q, k, v, scale=scale, key_value_seq_lengths=seen, implementation=implementation
    )
