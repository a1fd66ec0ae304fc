"""Attention for the CPU, one head or one sample after another, so that the scores stay in cache.

Its backward pass recomputes the scores, as flash kernels do (FlashAttention, algorithm 4): kept for every
block and head they would take most of a training step's memory.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_einsum = partial(jnp.einsum, preferred_element_type=jnp.float32)
HIDDEN = -1e30  # added to the score of a key that is not to be seen


def by_head_attention(
    q: Float[Array, "b l h d"],
    k: Float[Array, "b s n d"],
    v: Float[Array, "b s n d"],
    keys: Bool[Array, "b s"] | None,
    scale: float,
) -> Float[Array, "b l h d"]:
    """Softmax attention, with the softmax in float32. Each of the n key heads serves h / n query heads."""
    added = None if keys is None else jnp.where(keys, 0.0, HIDDEN).astype(jnp.float32)
    groups, shape = q.shape[2] // k.shape[2], q.shape
    q = q * scale  # far fewer numbers than the scores
    if groups == 1:
        return _attention(q, k, v, added)
    # The query heads of a key head as further queries of it.
    q = q.reshape(*shape[:2], -1, groups, shape[-1]).swapaxes(2, 3)
    q = q.reshape(shape[0], -1, k.shape[2], shape[-1])
    out = _attention(q, k, v, added)
    return out.reshape(*shape[:2], groups, -1, shape[-1]).swapaxes(2, 3).reshape(shape)


@jax.custom_vjp
def _attention(q: Array, k: Array, v: Array, added: Array | None) -> Array:
    return _forward(q, k, v, added)[0]


def _forward(q: Array, k: Array, v: Array, added: Array | None) -> tuple[Array, tuple[Array | None, ...]]:
    def one(added: Array | None, q: Array, k: Array, v: Array) -> tuple[Array, Array]:
        scores = _scores(q, k, added)
        largest = scores.max(-1, keepdims=True)
        weights = jnp.exp(scores - largest)
        total = weights.sum(-1, keepdims=True)
        # Normalising after the product needs fewer divisions.
        mixed = _einsum("nls,nsd->nld", weights.astype(v.dtype), v) / total
        return mixed.astype(v.dtype), largest + jnp.log(total)

    out, log_total = _one_by_one(one, added, q, k, v)
    return out, (q, k, v, added, out, log_total)


def _backward(kept: tuple[Array | None, ...], cotangent: Array) -> tuple[Array | None, ...]:
    def one(added: Array | None, *parts: Array) -> Any:
        q, k, v, out, log_total, cotangent = parts
        weights = jnp.exp(_scores(q, k, added) - log_total)
        to_weights = _einsum("nld,nsd->nls", cotangent, v)
        shared = _einsum("nld,nld->nl", cotangent, out)[..., None]
        to_scores = (weights * (to_weights - shared)).astype(q.dtype)
        to_q = _einsum("nls,nsd->nld", to_scores, k)
        to_k = _einsum("nls,nld->nsd", to_scores, q)
        to_v = _einsum("nls,nld->nsd", weights.astype(v.dtype), cotangent)
        return to_q.astype(q.dtype), to_k.astype(k.dtype), to_v.astype(v.dtype)

    q, k, v, added, out, log_total = kept
    return (*_one_by_one(one, added, q, k, v, out, log_total, cotangent), None)


def _scores(q: Array, k: Array, added: Array | None) -> Float[Array, "n l s"]:
    scores = _einsum("nld,nsd->nls", q, k)
    return scores if added is None else scores + added


def _one_by_one(one: Callable[..., Any], added: Array | None, *arrays: Any) -> Any:
    """Maps `one`, a function of what is added to its scores (n or 1, 1, s) and of arrays (n, l, d), over
    arrays (b, l, h, d): over heads (n = b) when there are fewer samples than heads, or else over samples
    (n = h).
    """
    samples, _, heads, _ = arrays[0].shape
    if samples < heads:
        moved = tuple(jnp.moveaxis(x, 2, 0) for x in arrays)
        of_all = None if added is None else added[:, None]
        mapped = jax.lax.map(lambda head: one(of_all, *head), moved)
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 2), mapped)

    def sample(parts: tuple[Array | None, tuple[Array, ...]]) -> Any:
        own, each = parts
        of_this = None if own is None else own[None, None]
        return jax.tree.map(_turned, one(of_this, *map(_turned, each)))

    return jax.lax.map(sample, (added, arrays))


def _turned(x: Array) -> Array:
    return x.swapaxes(0, 1)


_attention.defvjp(_forward, _backward)
