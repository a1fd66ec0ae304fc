"""The configs of Scone's models: their networks and sampling defaults, and named presets.

Field names follow the references (Scone, ByteDance-Seed/BAGEL, transformers); presets differ in numbers only.
"""

from dataclasses import dataclass

from uno_jax.networks.bounds import SCALE, SIDE, check_agree, check_bounds
from uno_jax.networks.mot import MoTConfig
from uno_jax.networks.vae import VAEConfig
from uno_jax.networks.vit import ViTConfig

EYES = ViTConfig(
    patch_size=14,
    hidden_size=1152,
    intermediate_size=4304,
    num_layers=26,
    num_heads=16,
    grid=70,
    pooling="none",
    activation="gelu_tanh",
    resolution=980,
    shortest_side=0,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)


@dataclass(frozen=True)
class SconeDefaults:
    """A model's sampling settings for options that a caller leaves out, stored with the decoder's config."""

    resolution: int = 1024
    """Side in pixels of the pictures that are drawn."""
    ref_size: int = 1024
    """Longest side of a reference in pixels, as its latent is made from it."""
    ref_vit_size: int = 980
    """Longest side of a reference in pixels, as the ViT sees it."""
    text_cfg: float = 4.0
    image_cfg: float = 2.0
    shift: float = 3.0
    points: int = 50

    def __post_init__(self) -> None:
        check_bounds(self, resolution=SIDE, ref_size=SIDE, ref_vit_size=SIDE, text_cfg=SCALE, image_cfg=SCALE)
        check_bounds(self, shift=(1e-3, 1e3), points=(2, 10_000))


@dataclass(frozen=True)
class SconeConfig:
    """The three networks of one model."""

    mot: MoTConfig = MoTConfig()
    vit: ViTConfig = EYES
    vae: VAEConfig = VAEConfig()
    defaults: SconeDefaults = SconeDefaults()

    def __post_init__(self) -> None:
        check_agree(
            {
                "mot.vit_size and vit.hidden_size": (self.mot.vit_size, self.vit.hidden_size),
                "mot.vit_side and vit.grid": (self.mot.vit_side, self.vit.grid),
                "mot.latent_channels and vae.latent_channels": (
                    self.mot.latent_channels,
                    self.vae.latent_channels,
                ),
            }
        )
        if self.vit.pooling != "none":
            raise ValueError(f"the ViT's pooling must be none, got {self.vit.pooling!r}: convert BAGEL's own")


PRESETS: dict[str, SconeConfig] = {"scone": SconeConfig()}
