"""The vision transformer of DINO, DINOv2, CLIP and SigLIP: prepared pixels -> one vector per picture, or one
for each of its patches.

Sources: facebookresearch/dino and dinov2 `vision_transformer.py`; transformers `modeling_clip.py`,
`modeling_siglip.py` and `modeling_dinov2_with_registers.py`. `ViTConfig` holds their differences.
"""

import math
from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from uno_jax.networks.attention.dispatch import attention
from uno_jax.networks.bounds import EPSILON, LAYERS, SCALE, SIDE, WIDTH, check_bounds, check_divides
from uno_jax.networks.layers import ACTIVATIONS, Dense, LayerNorm, parameter, scan_blocks
from uno_jax.sharding.rules import spread

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ViTConfig:
    """A vision transformer whose features score pictures, and how pictures are prepared for it.

    `VITS` has DINO (the defaults: ViT-S/16), DINOv2, and the vision towers of CLIP and SigLIP. Pooling
    "class" returns a class token; "attention" has none and pools the patches by a learned query; "none" has
    none either and returns the patches (BAGEL's SigLIP), each with the stored position of its row and column.
    """

    patch_size: int = 16
    hidden_size: int = 384
    intermediate_size: int = 1536
    num_layers: int = 12
    num_heads: int = 6
    grid: int = 14  # patches along a side of the stored position embedding
    registers: int = 0
    patch_bias: bool = True
    pre_norm: bool = False
    layer_scale: bool = False
    pooling: Literal["class", "attention", "none"] = "class"
    projection: int = 0  # width of the output; 0: hidden_size
    activation: str = "gelu"  # or quick_gelu, gelu_tanh, swiglu
    layer_norm_eps: float = 1e-6
    antialias: bool = False  # when the position embedding is downsampled
    resolution: int = 224  # side in pixels of its input
    shortest_side: int = 256  # pixels, before the centre is cropped; 0: both sides become `resolution`
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        widths = dict.fromkeys(("hidden_size", "intermediate_size", "num_heads"), WIDTH)
        sides = dict.fromkeys(("patch_size", "resolution"), SIDE)
        check_bounds(self, **widths, **sides, num_layers=LAYERS, grid=(1, 1024), registers=LAYERS)
        check_bounds(self, projection=(0, WIDTH[1]), shortest_side=(0, SIDE[1]), layer_norm_eps=EPSILON)
        check_bounds(self, mean=SCALE, std=(1e-6, 1e6))
        if (len(self.mean), len(self.std)) != (3, 3):
            raise ValueError(f"mean and std must be three numbers each, got {self.mean} and {self.std}")
        check_divides(self, "hidden_size", "num_heads")
        if self.activation not in ("gelu", "quick_gelu", "gelu_tanh", "swiglu"):
            raise ValueError(
                f"activation must be one of gelu, quick_gelu, gelu_tanh, swiglu; got {self.activation!r}"
            )
        if self.resolution < self.patch_size:
            raise ValueError(f"resolution {self.resolution} is less than patch_size {self.patch_size}")
        if 0 < self.shortest_side < self.resolution:
            raise ValueError(
                f"shortest_side {self.shortest_side} is less than resolution {self.resolution}: a square of "
                "that size cannot be cropped"
            )

    @property
    def width(self) -> int:
        """Width of the features."""
        return self.projection or self.hidden_size


# DINO ViT-S/16, DINOv2 ViT-S/14, CLIP ViT-B/32 and SigLIP ViT-B/16 as published.
VITS: dict[str, ViTConfig] = {
    "dino": ViTConfig(),
    "dinov2": ViTConfig(patch_size=14, grid=37, layer_scale=True),
    "clip": ViTConfig(
        patch_size=32,
        hidden_size=768,
        intermediate_size=3072,
        num_heads=12,
        grid=7,
        patch_bias=False,
        pre_norm=True,
        projection=512,
        activation="quick_gelu",
        layer_norm_eps=1e-5,
        shortest_side=224,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
    ),
    "siglip": ViTConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_heads=12,
        pooling="attention",
        activation="gelu_tanh",
        shortest_side=0,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
}


PATCH_AXES = ("window_h", "window_w", "conv_in", "embed")
TOKEN_AXES = ("positions", "embed")
ACTIVATION_AXES = ("samples", None, None)


class Patches(nn.Module):
    """A linear map of every whole patch; pixels left over at the right and the bottom are ignored."""

    config: ViTConfig
    dtype: DTypeLike

    @nn.compact
    def __call__(self, pixels: Float[Array, "b h w 3"]) -> Float[Array, "b rows columns d"]:
        c = self.config
        return nn.Conv(
            c.hidden_size,
            (c.patch_size, c.patch_size),
            strides=c.patch_size,
            padding="VALID",
            use_bias=c.patch_bias,
            dtype=self.dtype,
            kernel_init=nn.with_logical_partitioning(nn.initializers.lecun_normal(), PATCH_AXES),
            bias_init=nn.with_logical_partitioning(nn.initializers.zeros, PATCH_AXES[-1:]),
            name="conv",
        )(pixels)


def _attend(
    config: ViTConfig, dtype: DTypeLike, queries: Float[Array, "b l d"], x: Float[Array, "b s d"]
) -> Float[Array, "b l d"]:
    """Attention of `queries` to `x`; its four layers belong to the calling module."""

    def heads(name: str, source: Array) -> Array:
        layer = Dense(config.hidden_size, ("embed", "heads"), dtype=dtype, name=name)
        return layer(source).reshape(*source.shape[:2], config.num_heads, -1)

    mixed = attention(heads("q_proj", queries), heads("k_proj", x), heads("v_proj", x))
    out = Dense(config.hidden_size, ("heads", "embed"), dtype=dtype, name="out_proj")
    return out(mixed.reshape(queries.shape))


def _mlp(config: ViTConfig, dtype: DTypeLike, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
    """The layers fc1 and fc2, which belong to the calling module."""
    gated = config.activation == "swiglu"
    inner = config.intermediate_size * (2 if gated else 1)
    hidden = Dense(inner, ("embed", "mlp"), dtype=dtype, name="fc1")(x)
    if gated:
        gate, up = jnp.split(hidden, 2, axis=-1)
        hidden = nn.silu(gate) * up
    else:
        hidden = ACTIVATIONS[config.activation](hidden)
    return Dense(config.hidden_size, ("mlp", "embed"), dtype=dtype, name="fc2")(hidden)


class ViTBlock(nn.Module):
    config: ViTConfig
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"], _: None) -> tuple[Array, None]:
        c = self.config

        def scaled(name: str, y: Array) -> Array:
            if not c.layer_scale:
                return y
            scale: Array = parameter(self, name, nn.initializers.ones, ("embed",), y.shape[-1:])
            return y * scale.astype(y.dtype)

        normed = LayerNorm(c.layer_norm_eps, name="layer_norm1")(x)
        x = x + scaled("layer_scale1", _attend(c, self.dtype, normed, normed))
        normed = LayerNorm(c.layer_norm_eps, name="layer_norm2")(x)
        return spread(x + scaled("layer_scale2", _mlp(c, self.dtype, normed)), *ACTIVATION_AXES), None


class AttentionPool(nn.Module):
    """SigLIP's head: a learned query attends to all patches, followed by an MLP."""

    config: ViTConfig
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b d"]:
        c = self.config
        probe = parameter(self, "probe", nn.initializers.normal(0.02), TOKEN_AXES, (1, c.hidden_size))
        queries = jnp.broadcast_to(probe, (x.shape[0], *probe.shape)).astype(self.dtype)
        pooled = _attend(c, self.dtype, queries, x)
        normed = LayerNorm(c.layer_norm_eps, name="layer_norm")(pooled)
        return (pooled + _mlp(c, self.dtype, normed))[:, 0]


class ViT(nn.Module):
    config: ViTConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, pixels: Float[Array, "b h w 3"], cells: bool = False
    ) -> (
        Float[Array, "b width"]
        | Float[Array, "b rows columns d"]
        | tuple[Float[Array, "b width"], Float[Array, "b rows columns d"]]
    ):
        """The features of pictures of at least one patch, prepared by `evaluation.preprocess`; with `cells`
        also those of every patch, after the final norm, which are all there is without pooling.
        """
        c, samples = self.config, pixels.shape[0]
        x = Patches(c, self.dtype, name="patch_embedding")(pixels)
        shown = x.shape[1:3]
        positions = self._positions(shown).astype(self.dtype)
        x = x.reshape(samples, -1, c.hidden_size)
        if c.pooling == "class":
            x = jnp.concatenate([self._tokens("class_token", 1, samples), x], axis=1)
        x = x + positions
        if c.registers:  # registers have no position
            registers = self._tokens("registers", c.registers, samples)
            x = jnp.concatenate([x[:, :1], registers, x[:, 1:]], axis=1)
        if c.pre_norm:
            x = LayerNorm(c.layer_norm_eps, name="pre_norm")(x)
        x, _ = scan_blocks(ViTBlock, c.num_layers)(c, self.dtype, name="blocks")(
            spread(x, *ACTIVATION_AXES), None
        )
        x = LayerNorm(c.layer_norm_eps, name="post_norm")(x)
        if c.pooling == "none":
            return x.reshape(samples, *shown, -1)
        pooled = AttentionPool(c, self.dtype, name="head")(x) if c.pooling == "attention" else x[:, 0]
        if c.projection:
            axes = ("embed", "projection")
            pooled = Dense(c.projection, axes, use_bias=False, dtype=self.dtype, name="projection")(pooled)
        if not cells:
            return pooled
        return pooled, x[:, -math.prod(shown) :].reshape(samples, *shown, -1)

    def _tokens(self, name: str, count: int, samples: int) -> Float[Array, "b count d"]:
        shape = (count, self.config.hidden_size)
        tokens = parameter(self, name, nn.initializers.normal(0.02), TOKEN_AXES, shape)
        return jnp.broadcast_to(tokens, (samples, *shape)).astype(self.dtype)

    def _positions(self, shown: tuple[int, ...]) -> Float[Array, "l d"]:
        """The stored position embedding, resampled to `shown` rows and columns of patches; without pooling
        the first ones of its own, so that pictures of other sizes keep the distance between patches.

        Raises ValueError if it has less.
        """
        c = self.config
        first = int(c.pooling == "class")
        shape = (first + c.grid**2, c.hidden_size)
        stored: Array = parameter(self, "position_embedding", nn.initializers.normal(0.02), TOKEN_AXES, shape)
        if shown == (c.grid, c.grid):
            return stored
        if c.pooling == "none":
            if max(shown) > c.grid:
                raise ValueError(f"{shown[0]}x{shown[1]} patches, but positions for {c.grid} a side")
            square: Array = stored.reshape(c.grid, c.grid, -1)[: shown[0], : shown[1]]
            return square.reshape(-1, c.hidden_size)
        rows, columns = (bicubic_weights(c.grid, size, c.antialias) for size in shown)
        whole = stored[first:].reshape(c.grid, c.grid, -1).astype(jnp.float32)
        resampled = jnp.einsum("hy,wx,yxd->hwd", rows, columns, whole).reshape(-1, c.hidden_size)
        return jnp.concatenate([stored[:first], resampled.astype(stored.dtype)])


def bicubic_weights(stored: int, shown: int, antialias: bool) -> Float[np.ndarray, "shown stored"]:
    """The matrix that resamples a line of values as torch's `interpolate` does in mode bicubic.

    Keys' cubic with a = -0.75 and repeated ends; or antialiased as in Pillow: with a = -0.5, stretched to the
    step between samples and truncated at the ends.
    """
    step = stored / shown
    stretch = max(step, 1.0) if antialias else 1.0
    weights = np.zeros((shown, stored))
    for row in range(shown):
        centre = (row + 0.5) * step - 0.5
        for tap in range(math.floor(centre - 2 * stretch), math.ceil(centre + 2 * stretch) + 1):
            if antialias and not 0 <= tap < stored:
                continue
            weight = _cubic((tap - centre) / stretch, -0.5 if antialias else -0.75)
            weights[row, min(max(tap, 0), stored - 1)] += weight
    normalised: np.ndarray = weights / weights.sum(1, keepdims=True)
    return normalised.astype(np.float32)


def _cubic(x: float, a: float) -> float:
    """Keys' convolution kernel (1981), which is 0 for |x| >= 2."""
    x = abs(x)
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0


def smallest_inputs(config: ViTConfig) -> tuple[Array]:
    """A picture of one patch, for initialising the network."""
    return (jnp.zeros((1, config.patch_size, config.patch_size, 3)),)
