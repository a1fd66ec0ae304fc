"""Flash attention on TPU: JAX's splash kernel, padded to support any length."""

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jaxtyping import Array, Float

LANES = 128
BLOCK = 512


def splash_attention(
    q: Float[Array, "b l h d"],
    k: Float[Array, "b s h d"],
    v: Float[Array, "b s h d"],
    scale: float,
    interpret: bool = False,
) -> Float[Array, "b l h d"]:
    """Attention without mask or bias on one chip. Queries and keys are padded to whole blocks; the padding is
    masked out.

    `interpret` runs the kernel without a TPU, in Pallas's interpreter.
    """
    length, heads, seen = q.shape[1], q.shape[2], k.shape[1]
    block_q, block_kv = (min(BLOCK, -(-size // LANES) * LANES) for size in (length, seen))
    padding_q, padding_kv = -length % block_q, -seen % block_kv

    def prepared(x: Array, padding: int) -> Array:
        return jnp.pad(x.swapaxes(1, 2), ((0, 0), (0, 0), (0, padding), (0, 0)))

    kernel = kernels.make_splash_mha(
        masks.MultiHeadMask([masks.FullMask((length + padding_q, seen + padding_kv))] * heads),
        block_sizes=block_sizes(block_q, block_kv),
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )
    tokens_q, tokens_kv = (jnp.zeros(size, jnp.int32) for size in (length + padding_q, seen + padding_kv))
    segments = kernels.SegmentIds(q=tokens_q, kv=tokens_kv.at[seen:].set(1)) if padding_kv else None
    out: Array = jax.vmap(lambda *one: kernel(*one, segments))(
        prepared(q, padding_q) * scale, prepared(k, padding_kv), prepared(v, padding_kv)
    )
    return out[:, :, :length].swapaxes(1, 2)


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
