"""The one place where attention is computed: each platform's fastest kernel behind one function."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from uno_jax.models.splash import LANES, splash_attention


def attention(
    q: Float[Array, "b l h d"],
    k: Float[Array, "b s h d"],
    v: Float[Array, "b s h d"],
    bias: Float[Array, "#b #h l s"] | None = None,
    scale: float | None = None,
    causal: bool = False,
) -> Float[Array, "b l h d"]:
    """Softmax attention; `scale` defaults to d**-0.5 and the softmax accumulates in float32.

    Without bias and causality: JAX's splash kernel on TPU, cuDNN's flash kernel on NVIDIA GPUs for the heads
    it can do; elsewhere XLA. On the CPU one head at a time, because the scores of a single head stay in cache
    (5 % of a whole forward at 640 tokens).
    """
    where, width = platform(), q.shape[-1]
    plain = bias is None and not causal
    if where == "cpu" and plain:
        heads = jax.tree.map(lambda x: jnp.moveaxis(x, 2, 0)[:, :, :, None], (q, k, v))
        out = jax.lax.map(lambda head: jax.nn.dot_product_attention(*head, scale=scale), heads)
        return jnp.moveaxis(out[:, :, :, 0], 0, 2)
    if where == "tpu" and plain and width % LANES == 0:
        return splash_attention(q, k, v, width**-0.5 if scale is None else scale)
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    cudnn = where == "gpu" and half and bias is None and width <= 128 and width % 8 == 0
    return jax.nn.dot_product_attention(
        q, k, v, bias=bias, scale=scale, is_causal=causal, implementation="cudnn" if cudnn else "xla"
    )


def platform() -> str:
    """What is compiled for: "cpu", "gpu" or "tpu". The devices of the mesh in use (`jax.set_mesh`), which
    need not be of this machine; without a mesh, this process's own.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform
