"""Attention whose products are of float8 numbers (e4m3), for sampling: cuDNN's kernel on NVIDIA's Hopper and
B200-class GPUs, and the same rounding in float32 elsewhere.

q, k, v, the softmax's weights and the result are rounded. q and k have one scale each, which follows from
their norms' weights, v and the result one for each sample and head, so that nothing depends on the pictures
beside or on how heads are spread over chips. Scales are powers of two, which change no digit.

The kernel is described to XLA here, since `jax.nn.dot_product_attention` takes no float8: `jax.ffi` passes it
on with the configuration that XLA's `CudnnfMHABackendConfig` asks for. No gradient is defined.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

FLOAT8 = jnp.dtype(jnp.float8_e4m3fn)
LARGEST = 448.0
WEIGHTS = 256.0  # the scale of the softmax's weights, which are at most 1
WIDEST, STEP = 128, 16  # of a head, and the multiple that its width must be of
SMALLEST = 2.0**-100  # bound that is taken in place of 0
STATUS_RETURNING = 2  # XLA's number of the form of custom calls that its compiler replaces


class Limits(NamedTuple):
    """Upper bounds of the magnitudes in q and k, which their norms give."""

    q: Float[Array, ""]
    k: Float[Array, ""]


class Rounded(NamedTuple):
    """Float8 numbers, and the powers of two by which q and k were multiplied before."""

    q: Float[Array, "b l h d"]
    k: Float[Array, "b s h d"]
    v: Float[Array, "b s h d"]
    by_q: Float[Array, ""]
    by_k: Float[Array, ""]


Kernel = Callable[[Rounded, float], Float[Array, "b l h d"]]
"""Computes the float8 attention of such numbers, whose logits are multiplied by a number."""


def fits(width: int) -> bool:
    """Whether heads of this width can be had in float8."""
    return width <= WIDEST and width % STEP == 0


def attend(
    q: Float[Array, "b l h d"],
    k: Float[Array, "b s h d"],
    v: Float[Array, "b s h d"],
    limits: Limits,
    kernel: Kernel,
) -> Float[Array, "b l h d"]:
    """Softmax attention over all keys, in q's dtype."""
    largest = jnp.abs(v).max((1, 3), keepdims=True)
    by = [power_of_two(limit) for limit in (*limits, largest)]
    parts = [(x.astype(jnp.float32) * scale).astype(FLOAT8) for x, scale in zip((q, k, v), by, strict=True)]
    # The result is linear in v, so that its scales need not be known to the kernel.
    result = kernel(Rounded(parts[0], parts[1], parts[2], by[0], by[1]), q.shape[-1] ** -0.5)
    return (result.astype(jnp.float32) / by[2]).astype(q.dtype)


def power_of_two(limit: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The largest power of two by which numbers up to `limit` can be multiplied and stay float8."""
    mantissa, exponent = jnp.frexp(jnp.maximum(limit.astype(jnp.float32), SMALLEST))
    return jnp.ldexp(jnp.float32(1), jnp.where(mantissa <= LARGEST / 512, 9, 8) - exponent)


def in_float32(given: Rounded, scale: float) -> Float[Array, "b l h d"]:
    """The kernel in float32, one head at a time, whose weights are a matrix of all pairs."""

    def head(parts: tuple[Array, Array, Array]) -> Array:
        q, k, v = (part.astype(jnp.float32) for part in parts)
        logits = jnp.einsum("bld,bsd->bls", q, k) * (scale / (given.by_q * given.by_k))
        weights = jnp.exp(logits - logits.max(-1, keepdims=True))
        rounded = (weights * WEIGHTS).astype(FLOAT8).astype(jnp.float32)
        return (rounded @ v / (WEIGHTS * weights.sum(-1, keepdims=True))).astype(FLOAT8)

    heads = jax.lax.map(head, tuple(jnp.moveaxis(x, 2, 0) for x in given[:3]))
    return jnp.moveaxis(heads, 0, 2)


def by_cudnn(given: Rounded, scale: float) -> Float[Array, "b l h d"]:
    """cuDNN's kernel."""
    (batch, length, heads, width), seen = given.q.shape, given.k.shape[1]
    result = jax.ShapeDtypeStruct((batch, heads, length, width), FLOAT8)
    # Of the weights and of the result; neither is used here.
    largest = jax.ShapeDtypeStruct((1, 1, 1, 1), jnp.float32)
    workspace = jax.ShapeDtypeStruct((0,), jnp.uint8)  # XLA finds its size
    call = jax.ffi.ffi_call(
        "__cudnn$fmhaSoftmaxF8",
        [result, largest, largest, workspace],
        output_layouts=[(0, 2, 1, 3), None, None, None],
        custom_call_api_version=STATUS_RETURNING,
        legacy_backend_config=json.dumps(configuration((batch, heads, length, seen), scale)),
    )
    one, weights = jnp.float32(1), jnp.float32(WEIGHTS)
    # What q, k, v and the weights are multiplied by again, then the scales of the weights and of the result.
    scales = (1 / given.by_q, 1 / given.by_k, one, 1 / weights, weights, one)
    return call(*given[:3], *(each.reshape(1, 1, 1, 1) for each in scales))[0].transpose(0, 2, 1, 3)


def configuration(weights: tuple[int, int, int, int], scale: float) -> dict[str, Any]:
    """What XLA reads of the call: the axes of both products of (batch, tokens, heads, channels), and the
    shape of the `weights` between them.
    """
    axes = "lhs_contracting", "rhs_contracting", "lhs_batch", "rhs_batch"

    def product(*numbers: tuple[int, ...]) -> dict[str, list[str]]:
        return {f"{name}_dimensions": [*map(str, each)] for name, each in zip(axes, numbers, strict=True)}

    return {
        "operation_queue_id": "0",
        "cudnn_fmha_backend_config": {
            "algorithm": {
                "algo_id": "0",
                "math_type": "TENSOR_OP_MATH",
                "tuning_knobs": {"17": "1", "24": "0"},
                "is_cudnn_frontend": True,
                "workspace_size": "0",
            },
            "fmha_scale": scale,
            "intermediate_tensor_shape": {
                "element_type": "BF16",
                "dimensions": [*map(str, weights)],
                "layout": {"minor_to_major": ["3", "2", "1", "0"]},
                "is_dynamic_dimension": [False] * 4,
            },
            "is_flash_attention": True,
            "mask_type": "NO_MASK",
            "bmm1_dot_dimension_numbers": product((3,), (3,), (0, 2), (0, 2)),
            "bmm2_dot_dimension_numbers": product((3,), (1,), (0, 1), (0, 2)),
        },
    }
