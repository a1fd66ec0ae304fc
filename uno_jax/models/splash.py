"""Flash attention on TPU: JAX's splash kernel, fitted to any length and spread over the mesh in use.

The compiler cannot partition a kernel, so each chip runs its own samples and heads under shard_map.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

LANES = 128
BLOCK = 512
SAMPLES, HEADS = ("data", "fsdp"), ("tensor",)


def splash_attention(
    q: Float[Array, "b l h d"],
    k: Float[Array, "b l h d"],
    v: Float[Array, "b l h d"],
    scale: float,
    interpret: bool = False,
) -> Float[Array, "b l h d"]:
    """Self-attention without mask or bias. Samples and heads are spread over the mesh axes that divide them.

    `interpret` runs the kernel's own steps without a TPU.
    """
    local = partial(_local, scale=scale, interpret=interpret)
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return local(q, k, v)

    def fitting(axes: tuple[str, ...], size: int) -> tuple[str, ...] | None:
        return axes if size % math.prod(mesh.shape[axis] for axis in axes) == 0 else None

    spec = PartitionSpec(fitting(SAMPLES, q.shape[0]), None, fitting(HEADS, q.shape[2]), None)
    return jax.shard_map(local, in_specs=(spec, spec, spec), out_specs=spec, check_vma=False)(q, k, v)


def _local(q: Array, k: Array, v: Array, scale: float, interpret: bool) -> Array:
    """One chip's part. The tokens are padded to whole blocks, and no query sees the padding."""
    length, heads = q.shape[1:3]
    block = min(BLOCK, -(-length // LANES) * LANES)
    padding = -length % block
    padded = length + padding

    def prepared(x: Array) -> Array:
        return jnp.pad(x.swapaxes(1, 2), ((0, 0), (0, 0), (0, padding), (0, 0)))

    kernel = kernels.make_splash_mha(
        masks.MultiHeadMask([masks.FullMask((padded, padded))] * heads),
        block_sizes=kernels.BlockSizes(*(block,) * 8),  # type: ignore[arg-type]
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )
    real = jnp.zeros(padded, jnp.int32)
    segments = kernels.SegmentIds(q=real, kv=real.at[length:].set(1)) if padding else None
    out = jax.vmap(lambda *one: kernel(*one, segments))(prepared(q) * scale, prepared(k), prepared(v))
    return out[:, :, :length].swapaxes(1, 2)
