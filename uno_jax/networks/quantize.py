"""A frozen base in 8 bits, through qwix: half the memory of bfloat16, for LoRA training.

In: the parameter tree of a network. Out: the same tree, each stacked kernel of its blocks held as int8 or
float8 values with a float32 scale for each layer and output channel. What is not repeated by block
(embedders, the final layer), biases and norms stay unchanged. `networks.layers.Dense` takes both kinds of
kernel.
"""

from functools import partial
from typing import Any, cast

import flax
import jax
import jax.numpy as jnp
import qwix
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from uno_jax.networks.matmul import rounded_product, rounds_inputs
from uno_jax.networks.registry import NETWORKS
from uno_jax.support.trees import Params

FORMATS = {"int8": jnp.dtype(jnp.int8), "fp8": jnp.dtype(jnp.float8_e4m3fn)}


@flax.struct.dataclass
class Kernel(qwix.QArray):  # type: ignore[misc]  # qwix has no types
    """A quantised kernel that stands where an array would: `x @ kernel.astype(dtype)`."""

    __no_type_check__ = True  # as a pytree it also holds shapes or shardings in place of arrays

    def __rmatmul__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        return product(x, self, rounds_inputs(x, self))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x: Float[Array, "... i"], kernel: Kernel, rounded: bool = False) -> Float[Array, "... o"]:
    """x @ the kernel's values, in the dtype of its scales; XLA fuses the conversion into the product.
    `rounded`: both are rounded to bfloat16, and so are they in the backward pass.

    The kernel gets no gradient. The backward pass converts again, since the values that autodiff would keep
    for it are the whole base in x's dtype.
    """
    return _matmul(x, values(kernel), rounded)


def _matmul(x: Array, matrix: Array, rounded: bool) -> Array:
    return rounded_product(x, matrix) if rounded else x @ matrix


def values(kernel: Kernel) -> Float[Array, "*l i o"]:
    """The kernel as an array, in the dtype of its scales."""
    return cast(Array, qwix.dequantize(kernel))


def _forward(x: Array, kernel: Kernel, rounded: bool) -> tuple[Array, Kernel]:
    return _matmul(x, values(kernel), rounded), kernel


def _backward(rounded: bool, kernel: Kernel, cotangent: Array) -> tuple[Array, None]:
    return _matmul(cotangent, values(kernel).T, rounded), None


product.defvjp(_forward, _backward)


def quantize_base(frozen: dict[str, Params], base: str) -> None:
    """Replaces the blocks' kernels of the large networks in place, so that only one at a time exists twice.

    Leaves are arrays or ShapeDtypeStructs with a NamedSharding; `base` is "int8" or "fp8".
    """
    for kind, params in frozen.items():
        if NETWORKS[kind].large:
            _quantize_blocks(params, base)


def _quantize_blocks(params: Params, base: str) -> None:
    for name, value in params.items():
        if isinstance(value, dict):
            _quantize_blocks(value, base)
        elif name == "kernel" and value.ndim == 3:  # stacked by block
            params[name] = _quantized(value, base)


def _quantized(kernel: Any, base: str) -> Kernel:
    layers, _, out = kernel.sharding.spec
    places = Kernel(
        kernel.sharding,
        NamedSharding(kernel.sharding.mesh, PartitionSpec(layers, None, out)),
        qtype=FORMATS[base],
    )

    @jax.jit(out_shardings=places)
    def convert(kernel: Float[Array, "l i o"]) -> Kernel:
        # In float32: in bfloat16 the quotients themselves are rounded to 8 bits.
        array = qwix.quantize(kernel.astype(jnp.float32), FORMATS[base], channelwise_axes=(0, 2))
        return Kernel(**vars(array))

    abstract = isinstance(kernel, jax.ShapeDtypeStruct)
    return cast(Kernel, convert.eval_shape(kernel) if abstract else convert(kernel))
