"""What a model is, as frozen dataclasses of numbers, and the named presets.

Every preset differs from `flux_dev` in numbers only. Field names follow the reference files
(black-forest-labs/flux `model.py`, `autoencoder.py`; transformers `T5Config`, `CLIPTextConfig`).
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Config = TypeVar("Config")


@dataclass(frozen=True)
class MMDiTConfig:
    """The FLUX transformer. `axes_dim` are the head's rope channels for (text or time, row, column)."""

    in_channels: int = 64
    vec_in_dim: int = 768
    context_in_dim: int = 4096
    hidden_size: int = 3072
    mlp_ratio: float = 4.0
    num_heads: int = 24
    depth: int = 19
    depth_single_blocks: int = 38
    axes_dim: tuple[int, ...] = (16, 56, 56)
    theta: int = 10_000
    qkv_bias: bool = True
    guidance_embed: bool = True
    resolution: int = 512  # side in pixels of the pictures it was taught, and sampling's default
    refs_scale: float = 0.625  # of several references' side to resolution; a single one has all of it
    guidance: float = 4.0  # sampling's default
    true_cfg: float = 1.0  # as guidance

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}"
            )
        if len(self.axes_dim) != 3 or any(d % 2 for d in self.axes_dim):
            raise ValueError(f"axes_dim must be three even numbers, got {self.axes_dim}")
        if sum(self.axes_dim) != self.head_dim:
            raise ValueError(
                f"axes_dim {self.axes_dim} add up to {sum(self.axes_dim)}, expected the head size "
                f"hidden_size / num_heads = {self.head_dim}"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def mlp_size(self) -> int:
        return int(self.hidden_size * self.mlp_ratio)


@dataclass(frozen=True)
class VAEConfig:
    """The FLUX autoencoder. One level a multiplier; each but the last halves the picture."""

    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    res_blocks: int = 2
    latent_channels: int = 16
    norm_groups: int = 32
    scale: float = 0.3611
    shift: float = 0.1159

    @property
    def downsampling(self) -> int:
        """Pixels a latent cell, along one side."""
        return 2 ** (len(self.multipliers) - 1)


@dataclass(frozen=True)
class T5Config:
    """The T5 v1.1 encoder; `length` is the number of padded tokens given to FLUX."""

    vocab_size: int = 32_128
    d_model: int = 4096
    d_kv: int = 64
    d_ff: int = 10_240
    num_layers: int = 24
    num_heads: int = 64
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    length: int = 512


@dataclass(frozen=True)
class CLIPConfig:
    """The CLIP ViT-L/14 text tower, of which FLUX takes the pooled output. With a `projection` (its width)
    the output is CLIP's own, to be compared with pictures.
    """

    vocab_size: int = 49_408
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_layers: int = 12
    num_heads: int = 12
    max_positions: int = 77
    layer_norm_eps: float = 1e-5
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    projection: int = 0


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ViTConfig:
    """A vision transformer whose features score pictures, and how pictures are prepared for it.

    DINO (the defaults: ViT-S/16), DINOv2, CLIP's and SigLIP's vision towers: `VITS`. Pooling "class" has a
    class token and gives it; "attention" has none and asks the patches by a learned query.
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
    pooling: Literal["class", "attention"] = "class"
    projection: int = 0  # width of the output, 0: hidden_size
    activation: Literal["gelu", "quick_gelu", "gelu_tanh", "swiglu"] = "gelu"
    layer_norm_eps: float = 1e-6
    antialias: bool = False  # where the position embedding is made smaller
    resolution: int = 224  # side in pixels of what it sees
    shortest_side: int = 256  # of a picture before its centre is cut out; 0: both sides become `resolution`
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}"
            )
        if self.activation not in ("gelu", "quick_gelu", "gelu_tanh", "swiglu"):
            raise ValueError(
                f"activation must be one of gelu, quick_gelu, gelu_tanh, swiglu; got {self.activation!r}"
            )
        if self.resolution < self.patch_size:
            raise ValueError(f"resolution {self.resolution} is less than patch_size {self.patch_size}")
        if 0 < self.shortest_side < self.resolution:
            raise ValueError(
                f"shortest_side {self.shortest_side} is less than resolution {self.resolution}: no square of "
                "that size can be cut out"
            )

    @property
    def width(self) -> int:
        """Of the features."""
        return self.projection or self.hidden_size


@dataclass(frozen=True)
class EfficientNetConfig:
    """EfficientNet-Lite0, which scores pictures (`uno_jax.evaluate`). One entry a stage."""

    stem: int = 32
    repeats: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    widths: tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)
    kernels: tuple[int, ...] = (3, 3, 5, 3, 5, 5, 3)
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    expansions: tuple[int, ...] = (1, 6, 6, 6, 6, 6, 6)
    head: int = 1280
    resolution: int = 224


@dataclass(frozen=True)
class UnoPE:
    """The position convention of a LoRA: which axes of the references are offset, and how far.

    Variants: d rows and columns, h rows only, w columns only, o neither (UNO section 3.3 and its
    ablation). `offset_scale` multiplies the offset: 1 is UNO's.
    """

    variant: Literal["d", "h", "w", "o"] = "d"
    offset_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.variant not in ("d", "h", "w", "o"):
            raise ValueError(f"UnoPE variant must be one of d, h, w, o; got {self.variant!r}")
        if not 0 <= self.offset_scale < float("inf"):
            raise ValueError(
                f"UnoPE offset_scale must be a finite number of 0 or more; got {self.offset_scale}"
            )


@dataclass(frozen=True)
class LoraConfig:
    """Which blocks carry UNO's low-rank pairs, and their rank. None means every block."""

    rank: int = 512
    double_idx: tuple[int, ...] | None = None
    single_idx: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"LoRA rank must be at least 1, got {self.rank}")


@dataclass(frozen=True)
class ModelConfig:
    """The four networks of one text-to-image model."""

    mmdit: MMDiTConfig = MMDiTConfig()
    vae: VAEConfig = VAEConfig()
    t5: T5Config = T5Config()
    clip: CLIPConfig = CLIPConfig()

    def __post_init__(self) -> None:
        pairs = {
            "mmdit.context_in_dim and t5.d_model": (self.mmdit.context_in_dim, self.t5.d_model),
            "mmdit.vec_in_dim and clip.hidden_size": (self.mmdit.vec_in_dim, self.clip.hidden_size),
            "mmdit.in_channels and 4 * vae.latent_channels": (
                self.mmdit.in_channels,
                4 * self.vae.latent_channels,
            ),
        }
        for names, (left, right) in pairs.items():
            if left != right:
                raise ValueError(f"these parts do not belong together: {names} differ ({left} and {right})")
        if self.clip.projection:
            raise ValueError("clip has a projection: FLUX takes its output before that; convert it without")


# By name: DINO ViT-S/16, DINOv2 ViT-S/14, CLIP ViT-B/32 and SigLIP ViT-B/16 as published.
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

PRESETS: dict[str, ModelConfig] = {
    "flux_dev": ModelConfig(),
    "flux_schnell": ModelConfig(mmdit=MMDiTConfig(guidance_embed=False), t5=T5Config(length=256)),
    "small": ModelConfig(
        mmdit=MMDiTConfig(
            vec_in_dim=64,
            context_in_dim=96,
            hidden_size=256,
            num_heads=4,
            depth=2,
            depth_single_blocks=5,
            axes_dim=(8, 28, 28),
            resolution=128,
            refs_scale=1.0,
            guidance=1.0,  # the only one it was taught
            true_cfg=3.0,
        ),
        vae=VAEConfig(width=16, multipliers=(1, 2, 4, 4), res_blocks=1, norm_groups=8),
        t5=T5Config(d_model=96, d_kv=32, d_ff=256, num_layers=2, num_heads=3, length=40),
        clip=CLIPConfig(hidden_size=64, intermediate_size=256, num_layers=2, num_heads=2),
    ),
    "tiny": ModelConfig(
        mmdit=MMDiTConfig(
            vec_in_dim=24,
            context_in_dim=40,
            hidden_size=64,
            num_heads=2,
            depth=2,
            depth_single_blocks=2,
            axes_dim=(8, 12, 12),
            resolution=64,
        ),
        vae=VAEConfig(width=32, multipliers=(1, 1, 2, 2), res_blocks=1),
        t5=T5Config(d_model=40, d_kv=8, d_ff=64, num_layers=2, num_heads=2, length=16),
        clip=CLIPConfig(hidden_size=24, intermediate_size=48, num_layers=2, num_heads=2),
    ),
}


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain JSON values; tuples become lists."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(cls: type[Config], values: dict[str, Any]) -> Config:
    """The inverse of `to_dict`. Raises ValueError naming the fields that `cls` does not have."""
    types = {field.name: field.type for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(values.keys() - types.keys()):
        raise ValueError(f"{cls.__name__} has no field {', '.join(unknown)}; it has {', '.join(types)}")
    return cls(**{name: _from_json(types[name], value) for name, value in values.items()})


def _from_json(kind: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return from_dict(kind, value)
    return tuple(value) if isinstance(value, list) else value
