"""Attention for the CPU, one head or one sample after another, so that the scores stay in cache.

Its backward pass recomputes the scores, as flash kernels do (FlashAttention, algorithm 4): kept for every
block and head they would take most of a training step's memory.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_einsum = partial(jnp.einsum, preferred_element_type=jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def by_head_attention(
    q: Float[Array, "b l h d"], k: Float[Array, "b s h d"], v: Float[Array, "b s h d"], scale: float
) -> Float[Array, "b l h d"]:
    """Softmax attention, with the softmax in float32."""
    return _forward(q, k, v, scale)[0]


def _forward(q: Array, k: Array, v: Array, scale: float) -> tuple[Array, tuple[Array, ...]]:
    def one(q: Array, k: Array, v: Array) -> tuple[Array, Array]:
        scores = _einsum("nld,nsd->nls", q, k) * scale
        largest = scores.max(-1, keepdims=True)
        weights = jnp.exp(scores - largest)
        total = weights.sum(-1, keepdims=True)
        # Normalising after the product needs fewer divisions.
        mixed = _einsum("nls,nsd->nld", weights.astype(v.dtype), v) / total
        return mixed.astype(v.dtype), largest + jnp.log(total)

    out, log_total = _one_by_one(one, q, k, v)
    return out, (q, k, v, out, log_total)


def _backward(scale: float, kept: tuple[Array, ...], cotangent: Array) -> tuple[Array, ...]:
    def one(q: Array, k: Array, v: Array, out: Array, log_total: Array, cotangent: Array) -> Any:
        weights = jnp.exp(_einsum("nld,nsd->nls", q, k) * scale - log_total)
        to_weights = _einsum("nld,nsd->nls", cotangent, v)
        shared = _einsum("nld,nld->nl", cotangent, out)[..., None]
        to_scores = (scale * weights * (to_weights - shared)).astype(q.dtype)
        to_q = _einsum("nls,nsd->nld", to_scores, k)
        to_k = _einsum("nls,nld->nsd", to_scores, q)
        to_v = _einsum("nls,nld->nsd", weights.astype(v.dtype), cotangent)
        return to_q.astype(q.dtype), to_k.astype(k.dtype), to_v.astype(v.dtype)

    return tuple(_one_by_one(one, *kept, cotangent))


def _one_by_one(one: Callable[..., Any], *arrays: Array) -> Any:
    """Maps `one`, a function of arrays (n, l, d), over arrays (b, l, h, d): over heads (n = b) when there are
    fewer samples than heads, or else over samples (n = h).
    """
    samples, _, heads, _ = arrays[0].shape
    if samples < heads:
        moved = tuple(jnp.moveaxis(x, 2, 0) for x in arrays)
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 2), jax.lax.map(lambda head: one(*head), moved))

    def sample(parts: tuple[Array, ...]) -> Any:
        return jax.tree.map(_turned, one(*map(_turned, parts)))

    return jax.lax.map(sample, arrays)


def _turned(x: Array) -> Array:
    return x.swapaxes(0, 1)


by_head_attention.defvjp(_forward, _backward)
