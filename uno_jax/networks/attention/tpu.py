"""Flash attention on TPU: JAX's splash kernel, padded to support any length."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jaxtyping import Array, Bool, Float

LANES = 128
# The most queries and keys in a block, for bfloat16 and heads of up to 128 channels, by JAX's device_kind. As
# published by MaxDiffusion (github.com/AI-Hypercomputer/maxdiffusion): 1,536 for FLUX on v6e, "due to larger
# vmem" (src/maxdiffusion/configs/base_flux_dev.yml); 1,024 where a config names none, and 512 in float32
# (src/maxdiffusion/models/attention_flax.py, q_max_block_size). `python -m benchmarks.splash` compiles them.
LARGEST = {"TPU v6 lite": 1536}
LARGEST_ELSEWHERE = 1024


def splash_attention(
    q: Float[Array, "b l h d"],
    k: Float[Array, "b s n d"],
    v: Float[Array, "b s n d"],
    keys: Bool[Array, "b s"] | None,
    scale: float,
    chip: str = "",
) -> Float[Array, "b l h d"]:
    """Attention without bias on one chip; each of the n key heads serves h / n query heads. Queries and keys
    are padded to whole blocks; the padding is masked out, as are the keys that are False in `keys`.

    Blocks are chosen for `chip`, a TPU's device_kind; without one Pallas's interpreter runs the kernel.
    """
    length, heads, seen, key_heads = q.shape[1], q.shape[2], k.shape[1], k.shape[2]
    largest = largest_block(chip, q.shape[-1], q.dtype)
    block_q, block_kv = (block_of(size, largest) for size in (length, seen))
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
        interpret=not chip,
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


def largest_block(chip: str, width: int, dtype: Any) -> int:
    """The most queries or keys in a block for heads of `width` channels on a chip, by its device_kind."""
    share: int = -(-width // LANES) * (jnp.dtype(dtype).itemsize // 2)
    return max(1, LARGEST.get(chip, LARGEST_ELSEWHERE) // (share * LANES)) * LANES


def block_of(size: int, largest: int) -> int:
    """The block for as many tokens: of those of more than half the largest the one that pads least, and of
    several such the longest.
    """
    if size <= largest:
        return -(-size // LANES) * LANES
    return min(range(largest, largest // 2, -LANES), key=lambda block: -size % block)


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
