"""Attention for every network: each platform's fastest kernel behind one function."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float

from uno_jax.networks.attention import float8
from uno_jax.networks.attention.cpu import by_head_attention
from uno_jax.networks.attention.gpu import cudnn_attention
from uno_jax.sharding.rules import partition


class Mask(NamedTuple):
    """What queries see of the keys; by default all."""

    keys: Bool[Array, "b s"] | None = None
    """Which keys are seen, at least one of every sample."""
    causal: bool = False
    """Query i of l sees keys up to s - l + i, so that the last query sees all."""

    def of_pairs(self, length: int, seen: int) -> Bool[Array, "#b 1 #l s"] | None:
        """The mask of every pair of a query and a key; None where all are seen."""
        mask = None if self.keys is None else self.keys[:, None, None]
        if not self.causal:
            return mask
        earlier = jnp.tri(length, seen, seen - length, dtype=bool)[None, None]
        return earlier if mask is None else mask & earlier


SEES_ALL = Mask()


def attention(
    q: Float[Array, "b l h d"],
    k: Float[Array, "b s n d"],
    v: Float[Array, "b s n d"],
    bias: Float[Array, "#b #h l s"] | None = None,
    scale: float | None = None,
    mask: Mask = SEES_ALL,
) -> Float[Array, "b l h d"]:
    """Softmax attention; `scale` defaults to d**-0.5 and the softmax accumulates in float32. Key head i
    serves query heads i h/n to (i + 1) h/n.

    Without bias and causality: JAX's splash kernel on TPU, cuDNN's flash kernel on NVIDIA GPUs for the heads
    that it supports, one head at a time on the CPU; otherwise XLA. Each chip of the mesh in use runs the
    kernel on its own samples, heads and queries; keys and values are gathered over the sequence axis.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if bias is not None or mask.causal:
        seen = mask.of_pairs(q.shape[1], k.shape[1])
        return jax.nn.dot_product_attention(q, k, v, bias=bias, mask=seen, scale=scale)
    return _on_each_chip(partial(_kernel(q), scale=scale), q, k, v, mask.keys)


def float8_attention(
    q: Float[Array, "b l h d"], k: Float[Array, "b s h d"], v: Float[Array, "b s h d"], limits: float8.Limits
) -> Float[Array, "b l h d"]:
    """Softmax attention with products of float8 numbers, for q and k within `limits`; as `attention` for
    heads that cannot be had so. It has no gradient.
    """
    if not float8.fits(q.shape[-1]):
        return attention(q, k, v)
    kernel = float8.by_cudnn if platform() == "gpu" else float8.in_float32

    def attend(q: Array, k: Array, v: Array, keys: None, limits: float8.Limits) -> Array:
        return float8.attend(q, k, v, limits, kernel)

    return _on_each_chip(attend, q, k, v, None, limits)


def _on_each_chip(
    kernel: Callable[..., Array], q: Array, k: Array, v: Array, keys: Array | None, *whole: Any
) -> Float[Array, "b l h d"]:
    """The kernel on each chip's part of the mesh in use; of `whole` every chip has all."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return kernel(q, k, v, keys, *whole)
    # The compiler cannot partition a custom kernel.
    queries = partition(mesh, ("samples", "tokens", "heads", None), q.shape)
    heads = partition(mesh, ("samples", None, "heads", None), k.shape)[2] and queries[2]
    queries = PartitionSpec(queries[0], queries[1], heads, None)
    sides = PartitionSpec(queries[0], None, heads, None)
    seen = None if keys is None else PartitionSpec(queries[0], None)
    specs = (queries, sides, sides, seen, *[PartitionSpec()] * len(whole))
    spread_out = jax.shard_map(kernel, in_specs=specs, out_specs=queries, check_vma=False)
    return spread_out(q, k, v, keys, *whole)


def _kernel(q: Float[Array, "b l h d"]) -> Callable[..., Float[Array, "b l h d"]]:
    where, width = platform(), q.shape[-1]
    if where == "cpu":
        return by_head_attention
    if where == "tpu":
        from uno_jax.networks.attention.tpu import LANES, splash_attention  # Pallas, slow to import

        if width % LANES == 0:
            return partial(splash_attention, chip=_device_kind())
    return cudnn_attention if where == "gpu" else _xla_attention


def _xla_attention(
    q: Array, k: Array, v: Array, keys: Bool[Array, "b s"] | None, scale: float
) -> Float[Array, "b l h d"]:
    mask = Mask(keys).of_pairs(q.shape[1], k.shape[1])
    return jax.nn.dot_product_attention(q, k, v, mask=mask, scale=scale)


def platform() -> str:
    """The platform compiled for: "cpu", "gpu" or "tpu". With a mesh in use (`jax.set_mesh`) that of its
    devices, which need not be on this machine; without one, this process's default.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


def _device_kind() -> str:
    """The kind of the devices compiled for, as `platform`."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    kind: str = (jax.devices()[0] if device is None else device).device_kind
    return kind
