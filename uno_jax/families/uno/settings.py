"""UNO's sampling settings: steps, guidance and position convention, and the sizes of references."""

from dataclasses import dataclass
from typing import Any

from uno_jax.families.flow import sampling_schedule
from uno_jax.families.latents import token_size
from uno_jax.families.uno.config import ModelConfig, UnoPE
from uno_jax.support.images import MULTIPLE


@dataclass(frozen=True)
class Settings:
    """How pictures are sampled; the same for all pictures of a call.

    `guidance` is None for a model without guidance embedding (schnell), whose schedule is not shifted either.
    `true_cfg` is the scale of classifier-free guidance (`velocity.Contrast`); 1 turns it off. Pictures of
    more than tile x tile pixels are decoded in tiles of that side.

    Raises ValueError for values that cannot work.
    """

    steps: int
    guidance: float | None
    unope: UnoPE = UnoPE()
    true_cfg: float = 1.0
    tile: int = 1024

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.guidance is not None and not 0 <= self.guidance < float("inf"):
            raise ValueError(f"guidance must be a finite number of 0 or more, got {self.guidance}")
        if not 0 <= self.true_cfg < float("inf"):
            raise ValueError(f"true_cfg must be a finite number of 0 or more, got {self.true_cfg}")

    def record(self, width: int, height: int) -> dict[str, Any]:
        """All settings that determine a picture of width x height pixels, as JSON values."""
        schedule = sampling_schedule(self.steps, width, height, shift=self.guidance is not None)
        return {
            "steps": self.steps,
            "guidance": self.guidance,
            "true_cfg": self.true_cfg,
            "unope": self.unope.variant,
            "offset_scale": self.unope.offset_scale,
            "schedule": [float(t) for t in schedule],
        }


def make_settings(
    config: ModelConfig,
    steps: int | None = None,
    guidance: float | None = None,
    unope: UnoPE = UnoPE(),
    true_cfg: float | None = None,
) -> Settings:
    """Settings with a model's defaults in place of None: 25 steps and its guidance (4 as in UNO), for
    schnell 4 steps and no guidance.

    Raises ValueError as `Settings`, and for guidance given to a model that takes none.
    """
    true_cfg = config.defaults.true_cfg if true_cfg is None else true_cfg
    if not config.mmdit.guidance_embed:
        if guidance is not None:
            raise ValueError(f"guidance {guidance} was given, but this model (as FLUX.1-schnell) takes none")
        return Settings(4 if steps is None else steps, None, unope, true_cfg)
    guidance = config.defaults.guidance if guidance is None else guidance
    return Settings(25 if steps is None else steps, guidance, unope, true_cfg)


def check_size(config: ModelConfig, width: int, height: int) -> None:
    """Raises ValueError if a picture's sides are not multiples of a token's."""
    token_size(height, width, config.vae.downsampling)


def reference_side(config: ModelConfig, count: int, ref_size: int | None = None) -> int:
    """The longest side of each of `count` references in pixels: `ref_size`, or by default the model's; for
    FLUX this is UNO's 512 for one and 320 for several.

    Raises ValueError for a `ref_size` smaller than a token.
    """
    if ref_size is not None:
        if ref_size < MULTIPLE:
            raise ValueError(f"the reference size must be at least {MULTIPLE} pixels, got {ref_size}")
        return ref_size
    defaults = config.defaults
    side = defaults.resolution if count < 2 else int(defaults.resolution * defaults.refs_scale)
    return side // MULTIPLE * MULTIPLE
