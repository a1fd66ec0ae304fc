"""A frozen base in 8 bits, through qwix: half the memory of bfloat16, for sampling and for LoRA training.

In: the parameter tree of a network. Out: the same tree, each stacked kernel of its blocks held as int8 or
float8 values with a float32 scale for each layer and output channel. What is not repeated by block
(embedders, the final layer), biases and norms stay unchanged. `networks.layers.Dense` takes both kinds of
kernel, stacked or separate.

"int8" and "fp8" convert the values back in every product. "fp8-products" (W8A8) multiplies them as they are:
x is rounded to float8 too, with a scale for each row, and sums are float32. "fp8-attention" does so too, and
the MM-DiT's attention has products of float8 numbers (`attention.float8`), for sampling only. The CPU
computes these numbers with float32 products of the rounded values.
"""

from collections.abc import Sequence
from functools import partial, reduce
from typing import Any, cast

import flax
import jax
import jax.numpy as jnp
import qwix
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int8

from uno_jax.networks.attention.dispatch import platform
from uno_jax.networks.attention.float8 import FLOAT8, LARGEST
from uno_jax.networks.matmul import Bound, Replacement, rounded_product, rounds_inputs
from uno_jax.networks.registry import NETWORKS
from uno_jax.support.trees import Params, TreePath

PRODUCTS = "fp8-products", "fp8-attention"
FORMATS = {"int8": jnp.dtype(jnp.int8), "fp8": FLOAT8, **dict.fromkeys(PRODUCTS, FLOAT8)}
SMALLEST_SCALE = 2.0**-100


@flax.struct.dataclass
class Kernel(qwix.QArray, Replacement):  # type: ignore[misc]  # qwix has no types
    """A quantised kernel that stands where an array would."""

    __no_type_check__ = True  # as a pytree it also holds shapes or shardings in place of arrays

    def multiply(
        self, parts: Sequence[Float[Array, "... _"]], bound: Bound | None = None
    ) -> Float[Array, "... o"]:
        x = jnp.concatenate(parts, axis=-1)
        return product(x, self, rounds_inputs(x, self))


@flax.struct.dataclass
class ProductKernel(Kernel):
    """A kernel that is multiplied in 8 bits, held as (out, in): cuBLAS's float8 products read both sides
    along the axis that they sum over, and would have a kernel (in, out) transposed in every call.
    """

    __no_type_check__ = True

    def astype(self, dtype: Any) -> "ProductKernel":
        """Itself: products have x's dtype, and the scales stay float32."""
        return self

    def multiply(
        self, parts: Sequence[Float[Array, "... _"]], bound: Bound | None = None
    ) -> Float[Array, "... o"]:
        """Tokens (b, l, i) are rounded; a single vector a sample is not: its product takes as long as
        reading the kernel, and what it gives, a modulation, scales all tokens.
        """
        x = jnp.concatenate(parts, axis=-1)
        if x.ndim < 3:
            return product(x, Kernel(self.qvalue.mT, self.scale.mT.astype(x.dtype)))
        rows = [largest(part) for part in (parts if bound is None else parts[:-1])]
        rows += [] if bound is None else [bound()]
        return product_of_rounded(x, jax.lax.stop_gradient(reduce(jnp.maximum, rows)), self)


@flax.struct.dataclass
class AttentionKernel(ProductKernel):
    """Such a kernel of q, k and v whose attention is computed in float8 too."""

    __no_type_check__ = True
    attends_in_float8 = True


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
    array = cast(Array, qwix.dequantize(kernel))
    return array.mT if isinstance(kernel, ProductKernel) else array


def _forward(x: Array, kernel: Kernel, rounded: bool) -> tuple[Array, Kernel]:
    return _matmul(x, values(kernel), rounded), kernel


def _backward(rounded: bool, kernel: Kernel, cotangent: Array) -> tuple[Array, None]:
    return _matmul(cotangent, values(kernel).T, rounded), None


product.defvjp(_forward, _backward)


@jax.custom_vjp
def product_of_rounded(
    x: Float[Array, "... i"], rows: Float[Array, "... 1"], kernel: ProductKernel
) -> Float[Array, "... o"]:
    """x, rounded to float8 row by row, times the kernel's float8 values, in x's dtype. `rows` bounds the
    magnitudes in each row of x from above, as closely as a factor of ten or so.

    Neither these nor the kernel get a gradient. In the backward pass the kernel's scales, which lie along the
    summed axis, are multiplied into the cotangent, which is then rounded row by row as x is here.
    """
    return _forward8(x, rows, kernel)[0]


def _product8(x: Float[Array, "... i"], rows: Float[Array, "... 1"], matrix: Float[Array, "i o"]) -> Array:
    scale = jnp.maximum(rows.astype(jnp.float32) / LARGEST, SMALLEST_SCALE)
    rounded = (x.astype(jnp.float32) / scale).astype(FLOAT8)
    if platform() == "cpu":
        y = rounded.astype(jnp.float32) @ matrix.astype(jnp.float32)
    else:
        y = jnp.matmul(rounded, matrix, preferred_element_type=x.dtype)
    scaled: Array = y * scale
    return scaled


def largest(x: Float[Array, "... i"]) -> Float[Array, "... 1"]:
    """The largest magnitude in each row."""
    return jnp.abs(x).max(-1, keepdims=True)


def _forward8(x: Array, rows: Array, kernel: ProductKernel) -> tuple[Array, ProductKernel]:
    return (_product8(x, rows, kernel.qvalue.T) * kernel.scale.T).astype(x.dtype), kernel


def _backward8(kernel: ProductKernel, cotangent: Array) -> tuple[Array, None, None]:
    scaled = cotangent * kernel.scale.T
    return _product8(scaled, largest(scaled), kernel.qvalue).astype(cotangent.dtype), None, None


product_of_rounded.defvjp(_forward8, _backward8)


def quantize_base(frozen: dict[str, Params], base: str) -> None:
    """Replaces the blocks' kernels of the large networks in place, so that only one at a time exists twice.

    Leaves are arrays or ShapeDtypeStructs with a NamedSharding; `base` is a key of FORMATS.
    """
    for kind, params in frozen.items():
        _quantize_tree(kind, params, (), base)


def _quantize_tree(kind: str, params: Params, path: TreePath, base: str) -> None:
    for name, value in params.items():
        if isinstance(value, dict):
            _quantize_tree(kind, value, (*path, name), base)
        else:
            params[name] = quantized(kind, (*path, name), value, base)


def quantized(kind: str, path: TreePath, array: Any, base: str) -> Any:
    """What stands in network `kind` for the array at `path`: a quantised kernel for those of the blocks of a
    large network, else the array itself.
    """
    if not is_quantized(kind, path, array):
        return array
    return _quantized(array, base, kernel_class(kind, path, base))


def kernel_class(kind: str, path: TreePath, base: str) -> type[Kernel]:
    """How a kernel of network `kind` is held and multiplied."""
    if base not in PRODUCTS or not NETWORKS[kind].rounds_tokens:
        return Kernel
    return AttentionKernel if base == "fp8-attention" and path[-2] == "qkv" else ProductKernel


@jax.jit
def int8_layer(kernel: Float[Array, "i o"]) -> tuple[Int8[Array, "i o"], Float[Array, "1 o"]]:
    """A layer's values and scales, as `quantized` computes them for all of a kernel's layers."""
    made = qwix.quantize(kernel.astype(jnp.float32), FORMATS["int8"], channelwise_axes=(1,))
    return made.qvalue, made.scale


def is_quantized(kind: str, path: TreePath, array: Any) -> bool:
    """Whether a base in 8 bits replaces the array: a kernel that is stacked by block."""
    return path[-1] == "kernel" and len(array.shape) == 3 and NETWORKS[kind].large


def _quantized(kernel: Any, base: str, cls: type[Kernel]) -> Kernel:
    layers, inner, out = kernel.sharding.spec
    mesh, products = kernel.sharding.mesh, issubclass(cls, ProductKernel)
    specs = (
        ((layers, out, inner), (layers, out, None))
        if products
        else (kernel.sharding.spec, (layers, None, out))
    )
    places = cls(*(NamedSharding(mesh, PartitionSpec(*spec)) for spec in specs), qtype=FORMATS[base])

    @jax.jit(out_shardings=places)
    def convert(kernel: Float[Array, "l i o"]) -> Kernel:
        # In float32: in bfloat16 the quotients themselves are rounded to 8 bits.
        matrix = kernel.astype(jnp.float32)
        matrix, axes = (matrix.mT, (0, 1)) if products else (matrix, (0, 2))
        return cls(**vars(qwix.quantize(matrix, FORMATS[base], channelwise_axes=axes)))

    abstract = isinstance(kernel, jax.ShapeDtypeStruct)
    return cast(Kernel, convert.eval_shape(kernel) if abstract else convert(kernel))
