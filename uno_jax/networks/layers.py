"""Layers shared by the networks: dense with an optional low-rank side path, norms, embeddings, rope.

Every parameter carries logical axis names, which `uno_jax.sharding.rules` maps to mesh axes.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, UInt32

from uno_jax.networks.attention.dispatch import platform
from uno_jax.networks.fused import column_blocks, columns
from uno_jax.networks.matmul import Bound, Replacement, product_of_parts, products_of_columns
from uno_jax.support.trees import AnyArray

Initializer = nn.initializers.Initializer


def parameter(
    module: nn.Module, name: str, init: Initializer, axes: tuple[str, ...], shape: tuple[int, ...]
) -> Any:
    """A parameter of `module` with one logical axis name per dimension: an array, or what replaces one, such
    as a quantized kernel or one that is cut (`networks.fused`), whose parts need not have this shape.
    """
    if module.has_variable("params", name):
        stored: Any = module.get_variable("params", name)
        cut = isinstance(stored, tuple) or (isinstance(stored, jax.Array) and stored.ndim > len(shape))
        # `module.param` would trace the initializer for the shape that it expects: a fifth of a start's time.
        fits = isinstance(stored, jax.Array) and stored.shape == shape
        if fits or cut or isinstance(stored, Replacement):
            return stored
    return module.param(name, nn.with_logical_partitioning(init, axes), shape)


class Dense(nn.Module):
    """x @ kernel + bias, plus (x @ down) @ up when the `lora` collection holds this layer.

    `axes` names the kernel's input and output axes. A quantized kernel (`networks.quantize`) brings its own
    product. The side path is never merged here: in bfloat16 a merged kernel rounds most of a small update
    away. A kernel that is cut into parts gives these with an axis of their own, and one that is cut into
    blocks of columns is for `in_columns` (`networks.fused`). `takes_slice` is for inputs that are slices of
    an array: on GPUs a product reads them in place, unless it adds the bias by itself.
    """

    features: int
    axes: tuple[str, str]
    use_bias: bool = True
    dtype: DTypeLike = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    takes_slice: bool = False

    def __call__(self, *parts: Float[Array, "... _"], bound: Bound | None = None) -> Float[Array, "... o"]:
        """`parts` are the input's channels, in one array or several. `bound` is one of the last part's rows,
        computed sooner than the part itself, which a product in 8 bits uses.
        """
        (y,) = self.in_columns(*parts, bound=bound)
        return y

    @nn.compact
    def in_columns(self, *parts: Float[Array, "... _"], bound: Bound | None = None) -> tuple[Array, ...]:
        """The same in the blocks of columns that the kernel is cut into, which is one if it is not."""
        width = sum(part.shape[-1] for part in parts)
        kernel = self._cast(parameter(self, "kernel", self.kernel_init, self.axes, (width, self.features)))
        x = [part.astype(self.dtype) for part in parts]
        if isinstance(kernel, tuple) and len(x) == 1:
            y = products_of_columns(x[0], kernel)
        else:
            y = (product_of_parts(x, kernel, bound),)
        if self.takes_slice and platform() == "gpu" and isinstance(kernel, jax.Array):
            y = jax.lax.optimization_barrier(y)
        if self.use_bias:
            bias = parameter(self, "bias", nn.initializers.zeros, self.axes[1:], (self.features,))
            y = self._sums(y, self._cast(bias))
        if self.has_variable("lora", "down"):
            down, up = (self._cast(self.get_variable("lora", name)) for name in ("down", "up"))
            y = self._sums(y, products_of_columns(product_of_parts(x, down), column_blocks(up, y)))
        return y

    @property
    def attends_in_float8(self) -> bool:
        """Whether the kernel is of a base whose attention is computed in float8."""
        kernel: Any = self.get_variable("params", "kernel")
        return isinstance(kernel, Replacement) and kernel.attends_in_float8

    def _cast(self, array: Any) -> Any:
        """A kernel or bias in this layer's dtype; a cut one is a tuple of blocks."""
        if isinstance(array, tuple):
            return tuple(block.astype(self.dtype) for block in array)
        return array.astype(self.dtype)

    def _sums(self, y: tuple[Array, ...], added: Any) -> tuple[Array, ...]:
        """Their sums block by block; what is added need not be cut."""
        return tuple(map(self._sum, y, column_blocks(added, y)))

    def _sum(self, y: Array, added: Array) -> Array:
        """Their sum, cut into parts where one of them is."""
        share = min(y.shape[-1], added.shape[-1])
        y, added = (
            columns(each, self.features // share) if each.shape[-1] > share else each for each in (y, added)
        )
        return y + added


class RMSNorm(nn.Module):
    """Root mean square norm with a learned scale, in float32 (FLUX's QKNorm, T5's layer norm)."""

    epsilon: float = 1e-6
    axis: str = "head_dim"

    @nn.compact
    def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
        scale = parameter(self, "scale", nn.initializers.ones, (self.axis,), (x.shape[-1],))
        x32 = x.astype(jnp.float32)
        factor = jax.lax.rsqrt(jnp.mean(x32 * x32, -1, keepdims=True) + self.epsilon)
        if platform() == "gpu":  # the scaling becomes part of what follows, in place of a kernel of its own
            factor = jax.lax.optimization_barrier(factor)
        normed: Array = x32 * factor * scale
        return normed.astype(x.dtype)


class MLPEmbedder(nn.Module):
    """Two dense layers with a SiLU between, for time, guidance and the pooled text."""

    hidden_size: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b i"]) -> Float[Array, "b d"]:
        x = Dense(self.hidden_size, ("in", "embed"), dtype=self.dtype, name="in_layer")(x)
        return Dense(self.hidden_size, ("embed_in", "embed"), dtype=self.dtype, name="out_layer")(nn.silu(x))


class LayerNorm(nn.Module):
    """Layer norm with scale and bias, in float32."""

    epsilon: float

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        normed: Array = nn.LayerNorm(
            self.epsilon,
            dtype=jnp.float32,
            use_fast_variance=False,
            scale_init=nn.with_logical_partitioning(nn.initializers.ones, ("embed",)),
            bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ("embed",)),
            name="norm",
        )(x)
        return normed.astype(x.dtype)


def scan_blocks(block: Any, length: int, in_axes: Any = nn.broadcast, unroll: int = 1) -> Any:
    """`length` blocks as one module that scans over their stacked parameters; a block is called with what
    passes from one to the next and, as `in_axes` says, with what is its own or what all of them share.
    """
    return nn.scan(
        block,
        variable_axes={"params": 0, "lora": 0, "intermediates": 0},
        split_rngs={"params": True},
        in_axes=in_axes,
        length=length,
        unroll=unroll,
        metadata_params={nn.PARTITION_NAME: "layers"},
        check_constancy_invariants=False,  # which traces a block once more
    )


def layer_norm(x: Float[Array, "... d"], epsilon: float = 1e-6) -> Float[Array, "... d"]:
    """Layer norm without learned parameters, in float32."""
    x32 = x.astype(jnp.float32)
    centred = x32 - x32.mean(-1, keepdims=True)
    normed = centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + epsilon)
    return normed.astype(x.dtype)


@partial(jax.checkpoint, prevent_cse=False)
def gelu(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """GELU by tanh, recomputed from x in the backward pass; autodiff would keep five arrays of x's size."""
    return nn.gelu(x, approximate=True)


def gelu_bound(x: Float[Array, "... d"]) -> Float[Array, "... 1"]:
    """An upper bound of |gelu(x)| in each row: GELU lies between -0.17 and 0 below 0, and below x above 0."""
    return jnp.maximum(x.max(-1, keepdims=True), 0.17)


def exact_gelu(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """GELU by the error function, as torch computes it. JAX's own uses erfc, which is slower on CPUs: 10 of
    the 74 ms for a picture in DINO ViT-S/16.
    """
    return x * (0.5 + 0.5 * jax.lax.erf(x * math.sqrt(0.5)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
    "gelu": exact_gelu,
    "gelu_tanh": partial(nn.gelu, approximate=True),
}


def timestep_embedding(
    t: Float[Array, "b"], dim: int = 256, max_period: float = 10_000.0, factor: float = 1000.0
) -> Float[Array, "b d"]:
    """Sinusoids of factor * t, cosines first (flux `modules/layers.py`; BAGEL's factor is 1).

    Angles reach 1000, so one unit in the last place of a frequency changes a sine by 6e-5. The exponents are
    rounded to float32 as in the reference; their exponential is then computed in float64.
    """
    half = dim // 2
    exponents = np.float32(-math.log(max_period)) * np.arange(half, dtype=np.float32) / np.float32(half)
    frequencies = np.exp(exponents.astype(np.float64)).astype(np.float32)
    angles = factor * t.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def rope_table(
    ids: Float[AnyArray, "*b l axes"], axes_dim: Sequence[int], theta: int | float
) -> tuple[Float[AnyArray, "*b l half"], Float[AnyArray, "*b l half"]]:
    """Cosines and sines of every position's angles: of ids on the host computed in float64, of ids on the
    device in float32; both are returned in float32.

    Axis i of the ids rotates axes_dim[i] channels of a head, in pairs (flux `math.py`).
    """
    on_host = isinstance(ids, np.ndarray)
    frequencies = [theta ** (-np.arange(0, dim, 2, dtype=np.float64) / dim) for dim in axes_dim]
    if not on_host:
        angles = [ids[..., axis, None] * each.astype(np.float32) for axis, each in enumerate(frequencies)]
        stacked = jnp.concatenate(angles, axis=-1)
        return jnp.cos(stacked), jnp.sin(stacked)
    wide = [ids[..., axis, None].astype(np.float64) * each for axis, each in enumerate(frequencies)]
    table = np.concatenate(wide, axis=-1)
    return np.cos(table).astype(np.float32), np.sin(table).astype(np.float32)


def apply_rope(
    x: Float[Array, "b l h d"],
    cos: Float[AnyArray, "*b l half"],
    sin: Float[AnyArray, "*b l half"],
    halves: bool = False,
) -> Float[Array, "b l h d"]:
    """Rotates pairs of channels by their angles, in float32: neighbours (2i, 2i+1) as FLUX, or with `halves`
    (i, d/2 + i) as Llama and Qwen.
    """
    axis = -2 if halves else -1
    pairs = x.astype(jnp.float32).reshape(*x.shape[:-1], *((2, -1) if halves else (-1, 2)))
    cos, sin = cos[..., None, :], sin[..., None, :]
    if platform() == "gpu":  # without slices XLA makes it, and its gradient, a part of what follows
        turned = pairs * jnp.stack([cos, cos], axis) + jnp.flip(pairs, axis) * jnp.stack([-sin, sin], axis)
    else:
        first, second = (jnp.take(pairs, index, axis=axis) for index in (0, 1))
        turned = jnp.stack([first * cos - second * sin, first * sin + second * cos], axis=axis)
    return turned.reshape(x.shape).astype(x.dtype)


def seeded_features(
    tokens: Int[Array, "b l"], width: int, seed: int, spread: float
) -> Float[Array, "b l width"]:
    """Features of tokens that follow from a seed alone, in place of a table of random ones: uniform with
    standard deviation `spread`. Equal on every platform.
    """
    index = jnp.asarray(tokens).astype(jnp.uint32)[..., None] * np.uint32(0x9E3779B1)
    index = index + np.arange(width, dtype=np.uint32) * np.uint32(0x85EBCA77) + np.uint32(seed)
    return hashed_uniform(index) * np.float32(math.sqrt(3) * spread)


def hashed_uniform(index: UInt32[Array, "*s"]) -> Float[Array, "*s"]:
    """A number from -1 to 1 for each index, by the finalizer of MurmurHash3. XLA makes one loop of it,
    without the memory that a random generator's bits take.
    """
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        index = (index ^ (index >> shift)) * np.uint32(factor)
    index = index ^ (index >> 16)
    return (index >> 8).astype(jnp.float32) * np.float32(2.0**-23) - 1
