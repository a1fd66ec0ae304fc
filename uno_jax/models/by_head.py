"""Attention for the CPU, one head after another, so that a head's scores stay in cache.

Its backward pass computes the scores again, as flash kernels do (FlashAttention, algorithm 4): kept for every
block and head they would be most of what a training step holds.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_einsum = partial(jnp.einsum, preferred_element_type=jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def by_head_attention(
    q: Float[Array, "b l h d"], k: Float[Array, "b s h d"], v: Float[Array, "b s h d"], scale: float
) -> Float[Array, "b l h d"]:
    """Softmax attention, in float32 between the products."""
    return _forward(q, k, v, scale)[0]


def _forward(q: Array, k: Array, v: Array, scale: float) -> tuple[Array, tuple[Array, ...]]:
    def one(head: tuple[Array, ...]) -> tuple[Array, Array]:
        q, k, v = head
        scores = _einsum("bld,bsd->bls", q, k) * scale
        largest = scores.max(-1, keepdims=True)
        weights = jnp.exp(scores - largest)
        total = weights.sum(-1, keepdims=True)
        # Divided only after the product: fewer divisions.
        mixed = _einsum("bls,bsd->bld", weights.astype(v.dtype), v) / total
        return mixed.astype(v.dtype), largest + jnp.log(total)

    heads = _heads(q, k, v)
    out, log_total = jax.lax.map(one, heads)
    return _together(out), (q, k, v, out, log_total)


def _backward(scale: float, kept: tuple[Array, ...], cotangent: Array) -> tuple[Array, ...]:
    q, k, v, out, log_total = kept

    def one(head: tuple[Array, ...]) -> tuple[Array, ...]:
        q, k, v, out, log_total, cotangent = head
        weights = jnp.exp(_einsum("bld,bsd->bls", q, k) * scale - log_total)
        to_weights = _einsum("bld,bsd->bls", cotangent, v)
        shared = _einsum("bld,bld->bl", cotangent, out)[..., None]
        to_scores = (scale * weights * (to_weights - shared)).astype(q.dtype)
        to_q = _einsum("bls,bsd->bld", to_scores, k)
        to_k = _einsum("bls,bld->bsd", to_scores, q)
        to_v = _einsum("bls,bld->bsd", weights.astype(v.dtype), cotangent)
        return to_q.astype(q.dtype), to_k.astype(k.dtype), to_v.astype(v.dtype)

    heads = (*_heads(q, k, v), out, log_total, *_heads(cotangent))
    to_q, to_k, to_v = jax.lax.map(one, heads)
    return _together(to_q), _together(to_k), _together(to_v)


def _heads(*arrays: Array) -> tuple[Array, ...]:
    return tuple(jnp.moveaxis(x, 2, 0) for x in arrays)


def _together(heads: Array) -> Array:
    return jnp.moveaxis(heads, 0, 2)


by_head_attention.defvjp(_forward, _backward)
