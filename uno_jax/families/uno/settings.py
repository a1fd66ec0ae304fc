"""UNO's sampling settings: steps, guidance and position convention, and the sizes of references."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import numpy as np
from jaxtyping import Bool, Float

from uno_jax.families.flow import sampling_schedule
from uno_jax.families.latents import token_size
from uno_jax.families.skipping import FLUX_DEV_RATIOS, computed_steps
from uno_jax.families.uno.config import ModelConfig, UnoPE
from uno_jax.support.images import MULTIPLE

ALWAYS = (0.0, 1.0)
STRENGTH = 0.6  # as in diffusers


@dataclass(frozen=True)
class Settings:
    """How pictures are sampled; the same for all pictures of a call.

    `guidance` is None for a model without guidance embedding (schnell), whose schedule is not shifted either.
    `true_cfg` is the scale of classifier-free guidance (`denoising.Contrast`); 1 turns it off. Of pictures
    with references `image_cfg` is that of the references, None for the same. Guidance acts at times in
    (cfg_interval[0], cfg_interval[1]]. `strength` is the share of the steps that a start image is
    drawn over with. Pictures of more than tile x tile pixels are decoded in tiles of that side. While the
    error that the model's `step_ratios` estimate stays below `skip_threshold`, steps are left out.

    Raises ValueError for values that cannot work.
    """

    steps: int
    guidance: float | None
    unope: UnoPE = UnoPE()
    true_cfg: float = 1.0
    tile: int = 1024
    cfg_interval: tuple[float, float] = ALWAYS
    strength: float = STRENGTH
    skip_threshold: float = 0.0
    step_ratios: tuple[float, ...] = FLUX_DEV_RATIOS
    image_cfg: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        for name in ("guidance", "true_cfg", "image_cfg"):
            scale = getattr(self, name)
            if scale is not None and not (
                isinstance(scale, int | float | np.floating) and 0 <= scale < float("inf")
            ):
                raise ValueError(f"{name} must be a finite number of 0 or more, got {scale!r}")
        low, high = self.cfg_interval
        if not 0 <= low < high <= 1:
            raise ValueError(f"cfg_interval must be two rising times between 0 and 1, got {low:g} {high:g}")
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength must be more than 0 and at most 1, got {self.strength}")
        if not 0 <= self.skip_threshold < float("inf"):
            raise ValueError(
                f"skip_threshold must be a finite number of 0 or more, got {self.skip_threshold}"
            )

    def away_from(self, refs: int) -> dict[str, float]:
        """What guidance leads away from, each without references, and at which scale, for pictures with so
        many of these: the "negative" prompt, the "prompt", both in this order, or nothing.
        """
        text = {} if self.true_cfg == 1 else {"negative": self.true_cfg}
        image = self.true_cfg if self.image_cfg is None or not refs else self.image_cfg
        return text if image == self.true_cfg else text | {"prompt": image}

    @property
    def skipped(self) -> int:
        """The steps that a drawing from a start image leaves out, as in diffusers, but never all."""
        return min(int(max(self.steps - self.steps * self.strength, 0)), self.steps - 1)

    def acts_at(self, times: Float[np.ndarray, "n"]) -> Bool[np.ndarray, "n"] | None:
        """Whether guidance acts at each time; None where it always does."""
        low, high = self.cfg_interval
        return None if self.cfg_interval == ALWAYS else (low < times) & (times <= high)

    def computed_at(self, times: Float[np.ndarray, "n"]) -> Bool[np.ndarray, "n"] | None:
        """Which of the last steps, that begin at these times, are computed, None for all. Two are at the
        beginning and where guidance begins or ends to act, so that a line can go through them.
        """
        if not self.skip_threshold:
            return None
        computed = computed_steps(self.step_ratios, self.steps, self.skip_threshold)[-len(times) :]
        computed[:2] = True
        if (acts := self.acts_at(times)) is not None:
            turns = 1 + np.flatnonzero(acts[1:] != acts[:-1])
            computed[turns] = computed[np.minimum(turns + 1, len(times) - 1)] = True
        return computed

    def record(self, width: int, height: int) -> dict[str, Any]:
        """All settings that determine a picture of width x height pixels, as JSON values."""
        schedule = sampling_schedule(self.steps, width, height, shift=self.guidance is not None)
        skips = {"skip_threshold": self.skip_threshold, "step_ratios": list(self.step_ratios)}
        return {
            "steps": self.steps,
            "guidance": self.guidance,
            "true_cfg": self.true_cfg,
            **({} if self.image_cfg is None else {"image_cfg": self.image_cfg}),
            **({} if self.cfg_interval == ALWAYS else {"cfg_interval": list(self.cfg_interval)}),
            **(skips if self.skip_threshold else {}),
            "unope": self.unope.variant,
            "offset_scale": self.unope.offset_scale,
            **({"reference_cache": True} if self.unope.reference_cache else {}),
            "schedule": [float(t) for t in schedule],
        }


class Guiding(TypedDict, total=False):
    """Fields of `Settings` whose defaults are the model's or the class's."""

    true_cfg: float
    image_cfg: float | None
    cfg_interval: tuple[float, float]
    strength: float
    skip_threshold: float
    step_ratios: tuple[float, ...]


def make_settings(
    config: ModelConfig,
    steps: int | None = None,
    guidance: float | None = None,
    unope: UnoPE = UnoPE(),
    **more: Unpack[Guiding],
) -> Settings:
    """Settings with a model's defaults in place of None: 25 steps and its guidance (4 as in UNO), for
    schnell 4 steps and no guidance. The model's `image_cfg` goes with its `true_cfg`: with another it is
    None.

    Raises ValueError as `Settings`, and for guidance given to a model that takes none.
    """
    own = config.defaults
    scales: Guiding = {} if "true_cfg" in more else {"true_cfg": own.true_cfg, "image_cfg": own.image_cfg}
    more = {"step_ratios": own.step_ratios, **scales, **more}
    if not config.mmdit.guidance_embed:
        if guidance is not None:
            raise ValueError(f"guidance {guidance} was given, but this model (as FLUX.1-schnell) takes none")
        return Settings(4 if steps is None else steps, None, unope, **more)
    guidance = config.defaults.guidance if guidance is None else guidance
    return Settings(25 if steps is None else steps, guidance, unope, **more)


def check_pictures(settings: Settings, shown: Sequence[Any]) -> None:
    """Raises ValueError for a negative prompt that nothing leads away from, and for an interval in which no
    guidance acts.
    """
    if settings.true_cfg == 1 and any(each.negative for each in shown):
        raise ValueError("a negative prompt needs classifier-free guidance: give true_cfg, 1.5 for example")
    if settings.cfg_interval == ALWAYS:
        return
    if not any(settings.away_from(len(each.refs)) for each in shown):
        raise ValueError(
            "cfg_interval says when classifier-free guidance acts: give true_cfg, or image_cfg and references"
        )
    low, high = settings.cfg_interval
    for width, height in dict.fromkeys((each.width, each.height) for each in shown):
        times = sampling_schedule(settings.steps, width, height, shift=settings.guidance is not None)[:-1]
        if not np.any(settings.acts_at(times)):
            listed = ", ".join(f"{time:.3g}" for time in times[:8]) + (", …" if len(times) > 8 else "")
            raise ValueError(
                f"no step lies in cfg_interval {low:g} {high:g}: the {settings.steps} steps begin at {listed}"
            )


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
