"""Flash attention on TPU: JAX's splash kernel, padded to support any length."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jaxtyping import Array, Bool, Float

LANES = 128
BLOCK = 512


def splash_attention(
    q: Float[Array, "b l h d"],
    k: Float[Array, "b s n d"],
    v: Float[Array, "b s n d"],
    keys: Bool[Array, "b s"] | None,
    scale: float,
    interpret: bool = False,
) -> Float[Array, "b l h d"]:
    """Attention without bias on one chip; each of the n key heads serves h / n query heads. Queries and keys
    are padded to whole blocks; the padding is masked out, as are the keys that are False in `keys`.

    `interpret` runs the kernel without a TPU, in Pallas's interpreter.
    """
    length, heads, seen, key_heads = q.shape[1], q.shape[2], k.shape[1], k.shape[2]
    block_q, block_kv = (min(BLOCK, -(-size // LANES) * LANES) for size in (length, seen))
    padding_q, padding_kv = -length % block_q, -seen % block_kv

    def prepared(x: Array, padding: int) -> Array:
        return jnp.pad(x.swapaxes(1, 2), ((0, 0), (0, 0), (0, padding), (0, 0)))

    shared = heads // key_heads
    make = kernels.make_splash_mha if shared == 1 else kernels.make_splash_mqa
    mask = masks.FullMask((length + padding_q, seen + padding_kv))
    kernel = make(
        masks.MultiHeadMask([mask] * (heads if shared == 1 else shared)),
        block_sizes=block_sizes(block_q, block_kv),
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )
    queries, keys_of, values = (
        prepared(q, padding_q) * scale,
        prepared(k, padding_kv),
        prepared(v, padding_kv),
    )
    if shared > 1:  # a kernel call for each key head, with its query heads
        queries = queries.reshape(queries.shape[0], key_heads, shared, *queries.shape[2:])
        kernel = jax.vmap(kernel, in_axes=(0, 0, 0, None))
    segments = _segments(keys, (length + padding_q, seen, padding_kv))
    each: Any = None if keys is None else kernels.SegmentIds(q=None, kv=0)  # type: ignore[arg-type]
    out: Array = jax.vmap(kernel, in_axes=(0, 0, 0, each))(queries, keys_of, values, segments)
    return out.reshape(out.shape[0], heads, -1, out.shape[-1])[:, :, :length].swapaxes(1, 2)


def _segments(keys: Bool[Array, "b s"] | None, sizes: tuple[int, int, int]) -> kernels.SegmentIds | None:
    """Queries are in segment 0, as are the keys that they see; `sizes` are those of queries, keys and their
    padding.
    """
    queries, seen, padding = sizes
    if keys is not None:
        hidden = jnp.pad(~keys, ((0, 0), (0, padding)), constant_values=True)
        return kernels.SegmentIds(q=jnp.zeros(queries, jnp.int32), kv=hidden.astype(jnp.int32))
    if not padding:
        return None
    tokens = jnp.zeros(seen + padding, jnp.int32)
    return kernels.SegmentIds(q=jnp.zeros(queries, jnp.int32), kv=tokens.at[seen:].set(1))


def block_sizes(q: int, kv: int) -> kernels.BlockSizes:
    return kernels.BlockSizes(
        block_q=q,
        block_kv=kv,
        block_kv_compute=kv,
        block_q_dkv=q,
        block_kv_dkv=kv,
        block_kv_dkv_compute=kv,
        block_q_dq=q,
        block_kv_dq=kv,
    )
