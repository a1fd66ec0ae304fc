"""EfficientNet-Lite without its classifier, in channels-last layout: pictures -> feature maps.

Source: Tan and Le 2019 (arXiv:1905.11946), and tensorflow/tpu `efficientnet/lite`: ReLU6 in place of swish,
no squeeze-and-excitation. Batch norms are folded into the convolutions before them.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from uno_jax.networks.bounds import SIDE, WIDTH, check_bounds, check_lengths
from uno_jax.networks.layers import parameter


@dataclass(frozen=True)
class EfficientNetConfig:
    """EfficientNet-Lite0, which scores pictures (`uno_jax.evaluate`). Tuples have one entry per stage."""

    stem: int = 32
    repeats: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    widths: tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)
    kernels: tuple[int, ...] = (3, 3, 5, 3, 5, 5, 3)
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    expansions: tuple[int, ...] = (1, 6, 6, 6, 6, 6, 6)
    head: int = 1280
    resolution: int = 224

    def __post_init__(self) -> None:
        check_bounds(self, stem=WIDTH, widths=WIDTH, head=WIDTH, resolution=SIDE, repeats=(1, 64))
        check_bounds(self, kernels=(1, 31), strides=(1, 8), expansions=(1, 64))
        check_lengths(self, "repeats", "widths", "kernels", "strides", "expansions")


CONV_AXES = ("window_h", "window_w", "conv_in", "conv_out")


class Conv(nn.Module):
    """A convolution with TensorFlow's padding."""

    features: int
    kernel: int = 1
    stride: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
        return nn.Conv(
            self.features,
            (self.kernel, self.kernel),
            strides=self.stride,
            padding="SAME",
            dtype=self.dtype,
            kernel_init=nn.with_logical_partitioning(nn.initializers.lecun_normal(), CONV_AXES),
            bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ("conv_out",)),
            name="conv",
        )(x)


class Depthwise(nn.Module):
    """A depthwise convolution as a sum of shifted pictures: XLA's own is five times slower on a CPU."""

    kernel: int
    stride: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        side, step, channels = self.kernel, self.stride, x.shape[-1]
        window = parameter(self, "kernel", nn.initializers.he_normal(), CONV_AXES, (side, side, 1, channels))
        bias = parameter(self, "bias", nn.initializers.zeros, ("conv_out",), (channels,))
        padding = jax.lax.padtype_to_pads(x.shape[1:3], (side, side), (step, step), "SAME")
        rows, columns = (-(-length // step) for length in x.shape[1:3])
        x = jnp.pad(x.astype(self.dtype), ((0, 0), *padding, (0, 0)))
        y: Array = bias.astype(self.dtype)
        for i in range(side):
            for j in range(side):
                shifted = x[:, i : i + step * rows : step, j : j + step * columns : step]
                y = y + shifted[:, :rows, :columns] * window[i, j].astype(self.dtype)
        return y


class Block(nn.Module):
    """An inverted residual block: expand, depthwise convolution, project; a skip where the shapes agree."""

    features: int
    kernel: int
    stride: int
    expansion: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
        h = x
        if self.expansion > 1:
            h = jax.nn.relu6(Conv(x.shape[-1] * self.expansion, dtype=self.dtype, name="expand")(h))
        h = jax.nn.relu6(Depthwise(self.kernel, self.stride, self.dtype, name="depthwise")(h))
        h = Conv(self.features, dtype=self.dtype, name="project")(h)
        return x + h if h.shape == x.shape else h


class EfficientNet(nn.Module):
    """Prepared pictures to the features before the last stage and those that the classifier pools: for 224
    pixels 7 x 7 x 192 and 7 x 7 x 1280.
    """

    config: EfficientNetConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"]
    ) -> tuple[Float[Array, "b h2 w2 m"], Float[Array, "b h3 w3 f"]]:
        c, middle = self.config, x
        x = jax.nn.relu6(Conv(c.stem, kernel=3, stride=2, dtype=self.dtype, name="stem")(x))
        stages = zip(c.repeats, c.widths, c.kernels, c.strides, c.expansions, strict=True)
        for stage, (repeats, width, kernel, stride, expansion) in enumerate(stages):
            middle = x
            for block in range(repeats):
                step = stride if block == 0 else 1
                x = Block(width, kernel, step, expansion, self.dtype, name=f"stage_{stage}_block_{block}")(x)
        return middle, jax.nn.relu6(Conv(c.head, dtype=self.dtype, name="head")(x))


def smallest_inputs(config: EfficientNetConfig) -> tuple[Array]:
    """A picture of one output cell, for initialising the network."""
    return (jnp.zeros((1, 32, 32, 3)),)
