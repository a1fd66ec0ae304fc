"""Attention on GPUs: cuDNN's flash kernel where it can be had, otherwise XLA."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

WIDEST = 128  # of a head
STEP = 8  # the multiple that a head's width must be of


def cudnn_attention(
    q: Float[Array, "b l h d"], k: Float[Array, "b s h d"], v: Float[Array, "b s h d"], scale: float
) -> Float[Array, "b l h d"]:
    """Softmax attention in half precision by cuDNN. JAX refuses the gradient of its kernel for odd lengths,
    such as 101 tokens; these, wide heads and float32 are left to XLA.
    """
    width, lengths = q.shape[-1], (q.shape[1], k.shape[1])
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    fits = width <= WIDEST and width % STEP == 0 and not any(length % 2 for length in lengths)
    implementation: Literal["cudnn", "xla"] = "cudnn" if half and fits else "xla"
    return jax.nn.dot_product_attention(q, k, v, scale=scale, implementation=implementation)
