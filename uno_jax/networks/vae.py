"""The FLUX autoencoder, in channels-last layout: picture -> posterior -> scaled latent -> picture.

Source: black-forest-labs/flux `modules/autoencoder.py`, whose names of submodules are kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from uno_jax.networks.attention.dispatch import attention
from uno_jax.networks.bounds import LAYERS, SCALE, WIDTH, check_bounds, check_divides
from uno_jax.networks.layers import Initializer
from uno_jax.support.trees import AnyArray


@dataclass(frozen=True)
class VAEConfig:
    """The FLUX autoencoder. It has one level per multiplier; each but the last halves the picture."""

    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    res_blocks: int = 2
    latent_channels: int = 16
    norm_groups: int = 32
    scale: float = 0.3611
    shift: float = 0.1159

    def __post_init__(self) -> None:
        widths = dict.fromkeys(("width", "latent_channels", "norm_groups"), WIDTH)
        check_bounds(self, **widths, multipliers=(1, 64), res_blocks=LAYERS, scale=SCALE, shift=SCALE)
        if not self.scale:
            raise ValueError("scale must not be 0")
        check_divides(self, "width", "norm_groups")

    @property
    def downsampling(self) -> int:
        """Pixels per latent cell along one side."""
        return 1 << (len(self.multipliers) - 1)


CONV_AXES = (None, None, "conv_in", "conv_out")


class Conv(nn.Module):
    """A convolution that keeps the size; with stride 2 it pads only right and bottom, like the reference."""

    features: int
    kernel: int = 3
    stride: int = 1
    dtype: DTypeLike = jnp.float32
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
        side = self.kernel // 2
        padding = [(0, 1), (0, 1)] if self.stride == 2 else [(side, side)] * 2
        return nn.Conv(
            self.features,
            (self.kernel, self.kernel),
            strides=self.stride,
            padding=padding,
            dtype=self.dtype,
            kernel_init=nn.with_logical_partitioning(nn.initializers.lecun_normal(), CONV_AXES),
            bias_init=nn.with_logical_partitioning(self.bias_init, ("conv_out",)),
            name="conv",
        )(x)


class GroupNorm(nn.Module):
    """Group norm in float32, eps 1e-6."""

    groups: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        normed: Array = nn.GroupNorm(
            self.groups,
            epsilon=1e-6,
            dtype=jnp.float32,
            use_fast_variance=False,
            scale_init=nn.with_logical_partitioning(nn.initializers.ones, ("conv_out",)),
            bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ("conv_out",)),
            name="norm",
        )(x)
        return normed.astype(x.dtype)


class ResnetBlock(nn.Module):
    features: int
    groups: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h w o"]:
        h = nn.silu(GroupNorm(self.groups, name="norm1")(x))
        h = Conv(self.features, dtype=self.dtype, name="conv1")(h)
        h = nn.silu(GroupNorm(self.groups, name="norm2")(h))
        h = Conv(self.features, dtype=self.dtype, name="conv2")(h)
        if x.shape[-1] != self.features:
            x = Conv(self.features, kernel=1, dtype=self.dtype, name="nin_shortcut")(x)
        return x + h


class AttnBlock(nn.Module):
    """Self-attention over all positions with one head."""

    groups: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        b, h, w, c = x.shape
        normed = GroupNorm(self.groups, name="norm")(x)
        q, k, v = (
            Conv(c, kernel=1, dtype=self.dtype, name=name)(normed).reshape(b, h * w, 1, c) for name in "qkv"
        )
        return x + Conv(c, kernel=1, dtype=self.dtype, name="proj_out")(attention(q, k, v).reshape(x.shape))


class Mid(nn.Module):
    groups: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        x = ResnetBlock(x.shape[-1], self.groups, self.dtype, name="block_1")(x)
        x = AttnBlock(self.groups, self.dtype, name="attn_1")(x)
        return ResnetBlock(x.shape[-1], self.groups, self.dtype, name="block_2")(x)


def narrow_posterior(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """An initial log variance of -6: noise as large as the latent would long hide it from the decoder."""
    return jnp.zeros(shape, dtype).at[shape[0] // 2 :].set(-6.0)


class Encoder(nn.Module):
    config: VAEConfig
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b h2 w2 m"]:
        c = self.config
        x = Conv(c.width, dtype=self.dtype, name="conv_in")(x)
        for level, multiplier in enumerate(c.multipliers):
            for block in range(c.res_blocks):
                name = f"down_{level}_block_{block}"
                x = ResnetBlock(c.width * multiplier, c.norm_groups, self.dtype, name=name)(x)
            if level < len(c.multipliers) - 1:
                x = Conv(x.shape[-1], stride=2, dtype=self.dtype, name=f"down_{level}_downsample")(x)
        x = Mid(c.norm_groups, self.dtype, name="mid")(x)
        x = nn.silu(GroupNorm(c.norm_groups, name="norm_out")(x))
        return Conv(2 * c.latent_channels, dtype=self.dtype, bias_init=narrow_posterior, name="conv_out")(x)


class Decoder(nn.Module):
    config: VAEConfig
    dtype: DTypeLike

    @nn.compact
    def __call__(self, z: Float[Array, "b h w z"]) -> Float[Array, "b H W 3"]:
        c = self.config
        x = Conv(c.width * c.multipliers[-1], dtype=self.dtype, name="conv_in")(z)
        x = Mid(c.norm_groups, self.dtype, name="mid")(x)
        for level, multiplier in reversed(list(enumerate(c.multipliers))):
            for block in range(c.res_blocks + 1):
                name = f"up_{level}_block_{block}"
                x = ResnetBlock(c.width * multiplier, c.norm_groups, self.dtype, name=name)(x)
            if level > 0:
                x = Conv(x.shape[-1], dtype=self.dtype, name=f"up_{level}_upsample")(upsample(x))
        x = nn.silu(GroupNorm(c.norm_groups, name="norm_out")(x))
        return Conv(3, dtype=self.dtype, name="conv_out")(x)


def upsample(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Each cell becomes two by two."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


class Autoencoder(nn.Module):
    """Pictures in [-1, 1] to posterior moments, and scaled latents back to pictures."""

    config: VAEConfig
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        self.encoder = Encoder(self.config, self.dtype)
        self.decoder = Decoder(self.config, self.dtype)

    def encode(self, image: Float[AnyArray, "b h w 3"]) -> Float[Array, "b h2 w2 m"]:
        """Mean and log variance of the posterior, unscaled.

        Raises ValueError unless the picture's sides are multiples of the downsampling.
        """
        factor = self.config.downsampling
        if image.shape[1] % factor or image.shape[2] % factor:
            raise ValueError(f"picture sides must be multiples of {factor}, got {image.shape[1:3]}")
        return self.encoder(jnp.asarray(image))

    def decode(self, latent: Float[Array, "b h w z"]) -> Float[Array, "b H W 3"]:
        return self.decoder(latent / self.config.scale + self.config.shift)

    def __call__(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
        """The reconstruction from the posterior mean. It uses every parameter, as initialisation requires."""
        return self.decode(posterior_mean(self.config, self.encode(image)))


def posterior_mean(config: VAEConfig, moments: Float[Array, "b h w m"]) -> Float[Array, "b h w z"]:
    """The scaled latent of the posterior's mean, used in sampling and to check parity."""
    mean, _ = jnp.split(moments, 2, axis=-1)
    return config.scale * (mean - config.shift)


def posterior_sample(
    config: VAEConfig, moments: Float[Array, "b h w m"], key: jax.Array
) -> Float[Array, "b h w z"]:
    """A scaled latent drawn from the posterior, used in training."""
    mean, log_variance = jnp.split(moments, 2, axis=-1)
    noise = jax.random.normal(key, mean.shape, mean.dtype)
    return config.scale * (mean + jnp.exp(0.5 * log_variance) * noise - config.shift)


def decode_tiled(
    decode: Callable[[AnyArray], AnyArray], latent: Float[AnyArray, "b h w z"], tile: int, overlap: int
) -> Float[np.ndarray, "b H W 3"]:
    """Decodes square tiles of `tile` latent cells one after another and blends `overlap` cells linearly.

    Needs the memory of one tile and compiles one shape. Away from seams the result differs from decoding the
    whole latent only because norms and attention see one tile.

    Raises ValueError unless 0 < overlap < tile.
    """
    if not 0 < overlap < tile:
        raise ValueError(f"overlap must lie between 0 and the tile's {tile} cells, got {overlap}")
    b, h, w, _ = latent.shape
    tile_h, tile_w = min(tile, h), min(tile, w)
    picture, weight, factor = np.zeros(0), np.zeros(0), 1
    for row in _tile_starts(h, tile, overlap):
        for col in _tile_starts(w, tile, overlap):
            part = np.asarray(decode(latent[:, row : row + tile_h, col : col + tile_w]), np.float32)
            if not picture.size:
                factor = part.shape[1] // tile_h
                picture, weight = (
                    np.zeros((b, h * factor, w * factor, 3), np.float32),
                    np.zeros((h * factor, w * factor, 1)),
                )
                ramp = _ramp(tile_h, overlap, factor)[:, None, None] * _ramp(tile_w, overlap, factor)[:, None]
            area = np.s_[row * factor : (row + tile_h) * factor, col * factor : (col + tile_w) * factor]
            picture[:, *area] += part * ramp
            weight[area] += ramp
    return picture / weight


def _tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    starts = range(0, max(length - overlap, 1), tile - overlap)
    return sorted({max(min(start, length - tile), 0) for start in starts})


def _ramp(tile: int, overlap: int, factor: int) -> np.ndarray:
    """Weights that rise over the overlap at both ends; never zero, since only one tile covers the border."""
    distance = np.minimum(np.arange(tile * factor), np.arange(tile * factor)[::-1]) + 1.0
    return np.minimum(distance / (overlap * factor), 1.0).astype(np.float32)


def smallest_inputs(config: VAEConfig) -> tuple[Array]:
    """A picture of one latent cell, for initialising the network."""
    return (jnp.zeros((1, config.downsampling, config.downsampling, 3)),)
