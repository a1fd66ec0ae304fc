"""The matrix product of the dense layers."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from uno_jax.networks.attention.dispatch import platform

Bound = Callable[[], Float[Array, "... 1"]]
"""Computes an upper bound of the magnitudes in each row of an array."""


class Replacement:
    """What stands for a kernel and brings its own product, such as a quantized one (`networks.quantize`)."""

    attends_in_float8 = False
    """Whether the attention of the q, k and v that it gives is computed in float8."""

    def multiply(
        self, parts: Sequence[Float[Array, "... _"]], bound: Bound | None = None
    ) -> Float[Array, "... o"]:
        """The product of the parts' channels, put together, with the kernel."""
        raise NotImplementedError


def product(x: Float[Array, "... i"], kernel: Any) -> Float[Array, "... o"]:
    """x @ kernel (i, o), in the precision that `jax.default_matmul_precision` asks for. A kernel that is cut,
    (i, parts, o), gives (..., parts, o).

    Under "bfloat16", float32 inputs are rounded and their products summed in float32, which TPUs do by
    themselves. XLA's CPU compiler ignores the setting, although CPUs with matrix units (AMX) are four times
    as fast with such inputs: on CPUs the rounding is done here.
    """
    if isinstance(kernel, Replacement):
        return kernel.multiply([x])
    cut = kernel.ndim > 2
    if rounds_inputs(x, kernel):
        return jax.vmap(rounded_product, (None, 1), -2)(x, kernel) if cut else rounded_product(x, kernel)
    y: Array = jnp.tensordot(x, kernel, 1) if cut else x @ kernel
    return y


def product_of_parts(
    parts: Sequence[Float[Array, "... _"]], kernel: Any, bound: Bound | None = None
) -> Float[Array, "... o"]:
    """The product of the parts' channels, put together, with a kernel. On GPUs it is a sum of products, since
    putting them together writes and reads them once more; elsewhere cutting the kernel takes longer. A tuple
    is a kernel that is cut already, into rows for each part (`networks.fused`). `bound` is one of the last
    part, which a product in 8 bits uses.
    """
    if isinstance(kernel, Replacement):
        return kernel.multiply(parts, bound)
    if isinstance(kernel, tuple):
        return cast(Array, sum(product(part, rows) for part, rows in zip(parts, kernel, strict=True)))
    if len(parts) == 1 or platform() != "gpu":
        return product(jnp.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0], kernel)
    ends = list(accumulate(part.shape[-1] for part in parts))
    rows = [kernel[end - part.shape[-1] : end] for part, end in zip(parts, ends, strict=True)]
    products = [product(part, each) for part, each in zip(parts, rows, strict=True)]
    # Products of rows of a kernel need no copy of them, but with a sum or a bias in one call they do.
    return cast(Array, sum(jax.lax.optimization_barrier(products)))


def products_of_columns(
    x: Float[Array, "... i"], kernel: tuple[Float[Array, "i _"], ...]
) -> tuple[Float[Array, "... _"], ...]:
    """The products of x with the blocks of columns of a kernel."""
    # XLA would make one product of all that multiply the same array, and copy small kernels into one for it.
    same = jax.lax.optimization_barrier([x] * len(kernel)) if len(kernel) > 1 else [x]
    return tuple(map(product, same, kernel))


def rounds_inputs(x: Any, kernel: Any) -> bool:
    """Whether their product rounds both to bfloat16."""
    asked: str | None = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return asked == "bfloat16" and bool(x.dtype == kernel.dtype == jnp.float32) and platform() == "cpu"


@jax.custom_vjp
def rounded_product(x: Float[Array, "... i"], kernel: Float[Array, "i o"]) -> Float[Array, "... o"]:
    """x @ kernel with both rounded to bfloat16 and products summed in float32."""
    return _forward(x, kernel)[0]


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    kept = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    return jnp.matmul(*kept, preferred_element_type=jnp.float32), kept


def _backward(kept: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, kernel = kept
    rounded = cotangent.astype(jnp.bfloat16)
    to_x = jnp.einsum("...o,io->...i", rounded, kernel, preferred_element_type=jnp.float32)
    # A sum over all tokens, for which XLA has no fast kernel with bfloat16 inputs.
    samples = [array.astype(jnp.float32).reshape(-1, array.shape[-1]) for array in (x, rounded)]
    return to_x, samples[0].T @ samples[1]


rounded_product.defvjp(_forward, _backward)
