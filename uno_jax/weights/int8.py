"""Kernels stored in 8 bits: `kernel` is int8, and beside it `kernel_scale` has a float32 factor for each
layer and output channel, as `networks.quantize` holds them in memory.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec, Sharding
from jaxtyping import Array, Float, Int8

from uno_jax.support.trees import TreePath

SCALE = "kernel_scale"


class StoredKernel(NamedTuple):
    """A stacked kernel and its scales."""

    qvalue: Int8[Array, "l i o"]
    scale: Float[Array, "l 1 o"]


def scale_path(kernel: TreePath) -> TreePath:
    """Where the scales of the kernel at a path are stored."""
    return (*kernel[:-1], SCALE)


def int8_kernels(stored: Mapping[TreePath, Any]) -> set[TreePath]:
    """The paths of the stacked kernels that have scales beside them."""
    return {
        path
        for path, leaf in stored.items()
        if leaf.dtype == np.int8 and len(leaf.shape) == 3 and scale_path(path) in stored
    }


def scale_shape(kernel: Any) -> jax.ShapeDtypeStruct:
    """Of the scales of a kernel (l, i, o)."""
    layers, _, out = kernel.shape
    return jax.ShapeDtypeStruct((layers, 1, out), np.float32)


def scale_axes(kernel: PartitionSpec) -> PartitionSpec:
    """The logical axes of a kernel's scales."""
    layers, _, out = kernel
    return PartitionSpec(layers, None, out)


def widen(kernel: StoredKernel, dtype: Any) -> Float[Array, "l i o"]:
    """The kernel's values in `dtype`, laid out as its 8 bits are."""
    return _widening(kernel.qvalue.sharding, jnp.dtype(dtype))(*kernel)


@cache
def _widening(sharding: Sharding, dtype: Any) -> Callable[[Array, Array], Array]:
    def multiply(qvalue: Array, scale: Array) -> Array:
        return (qvalue.astype(jnp.float32) * scale).astype(dtype)

    return jax.jit(multiply, out_shardings=sharding)
