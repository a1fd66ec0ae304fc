"""The one place where attention is computed, so that a kernel for a backend can be put here."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def attention(
    q: Float[Array, "b l h d"],
    k: Float[Array, "b s h d"],
    v: Float[Array, "b s h d"],
    bias: Float[Array, "#b #h l s"] | None = None,
    scale: float | None = None,
    causal: bool = False,
) -> Float[Array, "b l h d"]:
    """Softmax attention; `scale` defaults to d**-0.5 and the softmax accumulates in float32.

    cuDNN's flash kernel on NVIDIA GPUs in half precision; elsewhere XLA. On the CPU one head at a time,
    because the scores of a single head stay in cache (5 % of a whole forward at 640 tokens).
    """
    if jax.default_backend() == "cpu" and bias is None and not causal:
        heads = jax.tree.map(lambda x: jnp.moveaxis(x, 2, 0)[:, :, :, None], (q, k, v))
        out = jax.lax.map(lambda head: jax.nn.dot_product_attention(*head, scale=scale), heads)
        return jnp.moveaxis(out[:, :, :, 0], 0, 2)
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    cudnn = jax.default_backend() == "gpu" and half and bias is None
    return jax.nn.dot_product_attention(
        q, k, v, bias=bias, scale=scale, is_causal=causal, implementation="cudnn" if cudnn else "xla"
    )
