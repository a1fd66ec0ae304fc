"""Attention for every network: each platform's fastest kernel behind one function."""

from collections.abc import Callable
from functools import partial

import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from uno_jax.networks.attention.cpu import by_head_attention
from uno_jax.networks.attention.gpu import cudnn_attention
from uno_jax.networks.attention.tpu import LANES, splash_attention
from uno_jax.sharding.rules import partition


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
    that it supports, one head at a time on the CPU; otherwise XLA. Each chip of the mesh in use runs the
    kernel on its own samples, heads and queries; keys and values are gathered over the sequence axis.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if bias is not None or causal:
        return jax.nn.dot_product_attention(q, k, v, bias=bias, scale=scale, is_causal=causal)
    kernel = partial(_kernel(q), scale=scale)
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return kernel(q, k, v)
    # The compiler cannot partition a custom kernel.
    queries = partition(mesh, ("samples", "tokens", "heads", None), q.shape)
    keys = PartitionSpec(queries[0], None, queries[2], None)
    spread_out = jax.shard_map(kernel, in_specs=(queries, keys, keys), out_specs=queries, check_vma=False)
    return spread_out(q, k, v)


def _kernel(q: Float[Array, "b l h d"]) -> Callable[..., Float[Array, "b l h d"]]:
    where, width = platform(), q.shape[-1]
    if where == "cpu":
        return by_head_attention
    if where == "tpu" and width % LANES == 0:
        return splash_attention
    return cudnn_attention if where == "gpu" else jax.nn.dot_product_attention


def platform() -> str:
    """The platform compiled for: "cpu", "gpu" or "tpu". With a mesh in use (`jax.set_mesh`) that of its
    devices, which need not be on this machine; without one, this process's default.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform
