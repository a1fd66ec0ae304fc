"""The configs of FLUX/UNO models: their networks, UNO's position convention and LoRA, and named presets.

Presets differ from `flux_dev` in numbers only. Field names follow the references (black-forest-labs/flux
`model.py`, `autoencoder.py`; transformers `T5Config`, `CLIPTextConfig`).
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import jax

from uno_jax.families.skipping import FLUX_DEV_RATIOS
from uno_jax.networks.bounds import LAYERS, SCALE, SIDE, check_agree, check_bounds
from uno_jax.networks.clip import CLIPConfig
from uno_jax.networks.mmdit_config import MMDiTConfig
from uno_jax.networks.t5 import T5Config
from uno_jax.networks.vae import VAEConfig
from uno_jax.support.bounds import Bounds, Strength
from uno_jax.support.settings import ADDED


@jax.tree_util.register_static
@dataclass(frozen=True)
class UnoPE:
    """How a LoRA was trained to see references: which axes of their positions are offset, and by how much.

    Variants: d offsets rows and columns, h only rows, w only columns, o neither (UNO section 3.3 and its
    ablation). `offset_scale` multiplies the offset; UNO's is 1. UNO's references see text and target as
    these see them; with `reference_cache` they see references only, as at time 0.
    """

    variant: Literal["d", "h", "w", "o"] = "d"
    """Axes on which references are offset: d both, h rows, w columns, o neither."""
    offset_scale: Strength = 1.0
    """Factor of the offset."""
    reference_cache: bool = field(default=False, metadata=ADDED)
    """Whether references attend to references only and are modulated as at time 0, so that sampling computes
    their keys and values once a picture.
    """

    def __post_init__(self) -> None:
        if self.variant not in ("d", "h", "w", "o"):
            raise ValueError(f"UnoPE variant must be one of d, h, w, o; got {self.variant!r}")
        if not 0 <= self.offset_scale < float("inf"):
            raise ValueError(
                f"UnoPE offset_scale must be a finite number of 0 or more; got {self.offset_scale}"
            )

    def __str__(self) -> str:
        cached = ", reference cache" if self.reference_cache else ""
        return f"UnoPE {self.variant}, offset scale {self.offset_scale:g}{cached}"


@dataclass(frozen=True)
class LoraConfig:
    """The rank of UNO's low-rank pairs and the blocks that have them; None means every block."""

    rank: Annotated[int, Bounds(1, 8_192)] = 512
    """Rank of each pair."""
    double_idx: tuple[Annotated[int, Bounds(0, 1_000)], ...] | None = None
    """Indices of the double blocks that are adapted; default all."""
    single_idx: tuple[Annotated[int, Bounds(0, 1_000)], ...] | None = None
    """Indices of the single blocks that are adapted; default all."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"LoRA rank must be at least 1, got {self.rank}")
        for index in (*(self.double_idx or ()), *(self.single_idx or ())):
            if not 0 <= index < LAYERS[1]:
                raise ValueError(f"a LoRA's blocks are numbered from 0, got {index}")


@dataclass(frozen=True)
class SamplingDefaults:
    """A model's sampling settings for options that a caller leaves out, stored with the MM-DiT's config."""

    resolution: int = 512
    """Side in pixels of the pictures that the model was trained on."""
    refs_scale: float = 0.625
    """Longest side of two or more references as a fraction of `resolution`; a single one has all of it."""
    guidance: float = 4.0
    true_cfg: float = 1.0
    image_cfg: float | None = field(default=None, metadata=ADDED)
    """Of guidance by references; None is `true_cfg`."""
    step_ratios: tuple[float, ...] = field(default=FLUX_DEV_RATIOS, metadata=ADDED)
    """What `families.skipping` leaves steps out by: the growth of what the blocks add, step by step."""

    def __post_init__(self) -> None:
        scales = dict.fromkeys(("guidance", "true_cfg", "image_cfg"), SCALE)
        check_bounds(self, resolution=SIDE, refs_scale=(1 / 64, 64), **scales)
        if not 2 <= len(self.step_ratios) <= 1000 or not all(0 < ratio < 1000 for ratio in self.step_ratios):
            raise ValueError(
                f"step_ratios must be 2 to 1,000 numbers of more than 0, got {self.step_ratios!r:.80}"
            )


@dataclass(frozen=True)
class ModelConfig:
    """The four networks of one text-to-image model."""

    mmdit: MMDiTConfig = MMDiTConfig()
    vae: VAEConfig = VAEConfig()
    t5: T5Config = T5Config()
    clip: CLIPConfig = CLIPConfig()
    defaults: SamplingDefaults = SamplingDefaults()

    def __post_init__(self) -> None:
        check_agree(
            {
                "mmdit.context_in_dim and t5.d_model": (self.mmdit.context_in_dim, self.t5.d_model),
                "mmdit.vec_in_dim and clip.hidden_size": (self.mmdit.vec_in_dim, self.clip.hidden_size),
                "mmdit.in_channels and 4 * vae.latent_channels": (
                    self.mmdit.in_channels,
                    4 * self.vae.latent_channels,
                ),
            }
        )
        if self.clip.projection:
            raise ValueError("clip has a projection, which FLUX does not use: convert it without one")


PRESETS: dict[str, ModelConfig] = {
    "flux_dev": ModelConfig(),
    "flux_schnell": ModelConfig(mmdit=MMDiTConfig(guidance_embed=False), t5=T5Config(length=256)),
    "small": ModelConfig(
        mmdit=MMDiTConfig(
            in_channels=32,
            vec_in_dim=64,
            context_in_dim=96,
            hidden_size=256,
            num_heads=4,
            depth=2,
            depth_single_blocks=9,
            axes_dim=(8, 28, 28),
        ),
        vae=VAEConfig(width=24, multipliers=(1, 2, 4), res_blocks=1, latent_channels=8, norm_groups=8),
        # The embeddings of its tokens follow from seeds: megabytes that the MM-DiT has instead.
        t5=T5Config(d_model=96, d_kv=32, d_ff=256, num_layers=2, num_heads=3, length=48, token_seed=0),
        clip=CLIPConfig(hidden_size=64, intermediate_size=256, num_layers=2, num_heads=2, token_seed=1),
        # Guidance 1 is the only value that it was trained with.
        defaults=SamplingDefaults(resolution=128, refs_scale=1.0, guidance=1.0, true_cfg=3.0, image_cfg=6.0),
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
        ),
        vae=VAEConfig(width=32, multipliers=(1, 1, 2, 2), res_blocks=1),
        t5=T5Config(d_model=40, d_kv=8, d_ff=64, num_layers=2, num_heads=2, length=16),
        clip=CLIPConfig(hidden_size=24, intermediate_size=48, num_layers=2, num_heads=2),
        defaults=SamplingDefaults(resolution=64),
    ),
}
