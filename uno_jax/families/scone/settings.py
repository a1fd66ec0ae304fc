"""Scone's sampling settings, and the sizes of pictures that its models take."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict, Unpack, get_args

from PIL import Image

from uno_jax.families.latents import TokenSize, token_size
from uno_jax.families.scone.cache import bucket
from uno_jax.families.scone.config import SconeConfig
from uno_jax.families.scone.guidance import Guidance, Renorm, schedule
from uno_jax.families.scone.references import VAE_RULE, VIT_RULE, SizeRule, ruled_size
from uno_jax.support.images import ImageError, to_rgb
from uno_jax.tokenizers.qwen import QwenTokenizer

TILE = 1024


class Writing(NamedTuple):
    """How text is written: greedily at temperature 0, at most `max_tokens` tokens. With `think` the model
    reasons before it draws or answers.
    """

    think: bool = False
    temperature: float = 0.0
    max_tokens: int = 1000


@dataclass(frozen=True)
class SconeSettings:
    """How pictures are sampled; the same for all pictures of a call.

    `points` times make points - 1 Euler steps. References are shown to the ViT with a longest side of
    `vit_size` pixels.

    Raises ValueError for values that cannot work.
    """

    guidance: Guidance
    shift: float
    points: int
    vit_size: int
    writing: Writing = Writing()

    def __post_init__(self) -> None:
        if self.points < 2:
            raise ValueError(f"points must be at least 2, for one step, got {self.points}")
        if not 0 < self.shift < math.inf:
            raise ValueError(f"shift must be a finite number above 0, got {self.shift}")
        for name in ("text", "image"):
            scale = getattr(self.guidance, name)
            if not 0 <= scale < math.inf:
                raise ValueError(f"{name}_cfg must be a finite number of 0 or more, got {scale}")
        if self.guidance.renorm not in get_args(Renorm):
            raise ValueError(
                f"renorm must be one of {', '.join(get_args(Renorm))}; got {self.guidance.renorm!r}"
            )
        low, high = self.guidance.interval
        if not 0 <= low < high <= 1:
            raise ValueError(f"cfg_interval must be two rising times between 0 and 1, got {low} {high}")
        if not 0 <= self.writing.temperature < math.inf or self.writing.max_tokens < 1:
            raise ValueError(f"temperature must be 0 or more and max_tokens at least 1, got {self.writing}")
        if not 0 <= self.guidance.renorm_min <= 1:
            raise ValueError(f"renorm_min must lie between 0 and 1, got {self.guidance.renorm_min}")

    def record(self, width: int, height: int) -> dict[str, Any]:
        """All settings that determine a picture, as JSON values."""
        guidance = self.guidance
        return {
            "steps": self.points - 1,
            "shift": self.shift,
            "text_cfg": guidance.text,
            "image_cfg": guidance.image,
            "renorm": guidance.renorm,
            "renorm_min": guidance.renorm_min,
            "cfg_interval": list(guidance.interval),
            "vit_size": self.vit_size,
            "writing": self.writing._asdict() if self.writing.think else None,
            "schedule": [float(t) for t in schedule(self.points, self.shift)],
        }


class SconeOptions(TypedDict, total=False):
    """Options of `make_settings`."""

    text_cfg: float
    image_cfg: float
    renorm: Renorm
    renorm_min: float
    cfg_interval: tuple[float, float]
    shift: float
    points: int
    vit_size: int
    think: bool
    temperature: float
    max_tokens: int


OPTIONS = tuple(SconeOptions.__annotations__)


def make_settings(config: SconeConfig, **options: Unpack[SconeOptions]) -> SconeSettings:
    """Settings with a model's defaults for the options that are left out.

    Raises ValueError as `SconeSettings`, and for a ViT side that the model has no positions for.
    """
    defaults = config.defaults
    guidance = Guidance(
        options.get("text_cfg", defaults.text_cfg),
        options.get("image_cfg", defaults.image_cfg),
        options.get("renorm", Guidance.renorm),
        options.get("renorm_min", Guidance.renorm_min),
        options.get("cfg_interval", Guidance.interval),
    )
    vit_size = options.get("vit_size", defaults.ref_vit_size)
    patch, most = config.vit.patch_size, config.vit.patch_size * config.mot.vit_side
    if not patch <= vit_size <= most or vit_size % patch:
        raise ValueError(f"vit_size must be a multiple of {patch} up to {most} pixels, got {vit_size}")
    shift, points = options.get("shift", defaults.shift), options.get("points", defaults.points)
    writing = Writing(**{name: value for name, value in options.items() if name in Writing._fields})  # type: ignore[arg-type]
    return SconeSettings(guidance, shift, points, vit_size, writing)


def options_of(record: dict[str, Any]) -> dict[str, Any]:
    """The options of a record (`SconeSettings.record`)."""
    writing, steps = record.get("writing"), record.get("steps")
    points = {"points": steps + 1} if isinstance(steps, int) else {}
    return record | points | (writing if isinstance(writing, dict) else {})


def token_side(config: SconeConfig) -> int:
    """Pixels along a side of a latent token."""
    return config.vae.downsampling * config.mot.latent_patch


def picture_tokens(config: SconeConfig, width: int, height: int) -> TokenSize:
    """Rows and columns of a picture's latent tokens.

    Raises ValueError for sides that are no multiples of a token's, or for which the model has no positions.
    """
    size = token_size(height, width, config.vae.downsampling, config.mot.latent_patch)
    most = token_side(config) * config.mot.latent_side
    if max(width, height) > most:
        raise ValueError(f"this model draws pictures of up to {most} pixels a side, got {width}x{height}")
    return size


def check_size(config: SconeConfig, width: int, height: int) -> None:
    """Raises ValueError as `picture_tokens`."""
    picture_tokens(config, width, height)


def reference_side(config: SconeConfig, count: int, ref_size: int | None = None) -> int:
    """The longest side of references in pixels: `ref_size`, or by default the model's.

    Raises ValueError for a side that the model has no positions for.
    """
    side = config.defaults.ref_size if ref_size is None else ref_size
    least = token_side(config)
    if not least <= side <= least * config.mot.latent_side:
        raise ValueError(
            f"the reference size must lie between {least} and {least * config.mot.latent_side} pixels, "
            f"got {side}"
        )
    return side


def prepare_reference(image: Image.Image, longest_side: int, name: str = "the reference") -> Image.Image:
    """The picture upright, its alpha over white, resized (bicubic) by the rule for the autoencoder.

    Raises ImageError, naming the picture by `name`, for one that is too thin.
    """
    image = to_rgb(image)
    rule = VAE_RULE._replace(longest=longest_side, shortest=min(VAE_RULE.shortest, longest_side))
    size = ruled_size(*image.size, rule)
    if max(size) > longest_side:
        raise ImageError(
            f"{name}: {image.width}x{image.height} cannot be brought to sides of up to {longest_side} pixels"
        )
    return image.resize(size, Image.Resampling.BICUBIC)


def vit_pixels(config: SconeConfig, settings: SconeSettings, size: tuple[int, int]) -> tuple[int, int]:
    """The (width, height) in which the ViT is shown a prepared reference."""
    shortest = min(VIT_RULE.shortest, settings.vit_size)
    return ruled_size(*size, SizeRule(settings.vit_size, shortest, config.vit.patch_size))


def reference_tokens(
    config: SconeConfig, settings: SconeSettings, size: tuple[int, int]
) -> tuple[TokenSize, TokenSize]:
    """Rows and columns of a prepared reference's latent tokens, and of its ViT cells."""
    width, height = vit_pixels(config, settings, size)
    patch = config.vit.patch_size
    return picture_tokens(config, *size), (height // patch, width // patch)


def batch_shape(
    config: SconeConfig, settings: SconeSettings, sizes: Sequence[tuple[int, int]]
) -> tuple[tuple[int, ...], ...]:
    """The buckets of references of (width, height)."""
    found = (reference_tokens(config, settings, size) for size in sizes)
    return tuple(tuple(bucket(rows * columns) for rows, columns in grids) for grids in found)


def check_turns(
    config: SconeConfig,
    tokenizer: QwenTokenizer,
    turns: Sequence[str | tuple[int, int]],
    settings: SconeSettings,
) -> None:
    """Raises ValueError for an empty prompt with text guidance, and for more rope positions than the model
    has: a text takes one a token, a reference one for its latent and one for its cells.
    """
    texts = [turn for turn in turns if isinstance(turn, str)]
    if not (texts and texts[-1].strip()) and settings.guidance.text > 1:
        raise ValueError(
            "the prompt is empty, but text guidance leads away from the picture without it: give a prompt, "
            "or text_cfg 1"
        )
    told = sum(len(tokenizer.encode(text)) + 2 for text in texts)
    written = settings.writing.max_tokens if settings.writing.think else 0
    positions = told + 2 * (len(turns) - len(texts)) + written
    if positions > config.mot.max_positions:
        raise ValueError(
            f"the prompt, its references and what is written take {positions:,} positions, and this model "
            f"has {config.mot.max_positions:,}: give a shorter prompt, fewer references, or less max_tokens"
        )
