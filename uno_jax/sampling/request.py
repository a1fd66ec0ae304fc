"""What can be asked of a model: sizes, steps, guidance, references. Checked here, before any weight is
loaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from PIL import Image, ImageOps

from uno_jax.families.uno.positions import token_size
from uno_jax.networks.config import MMDiTConfig, ModelConfig, UnoPE
from uno_jax.support import images

MAX_SEED = 2**32 - 1


class Request(NamedTuple):
    """One picture to make; `refs` are prepared (`prepare_refs`), `seed` is this picture's own. `left` is the
    left half of a diptych of which the right is to be made, (width / 2, height).
    """

    prompt: str
    refs: tuple[Image.Image, ...]
    width: int
    height: int
    seed: int
    left: Image.Image | None = None


@dataclass(frozen=True)
class Settings:
    """How pictures are sampled, alike for all of a call. Raises ValueError for values that cannot work.

    `guidance` is None for a model without guidance embedding (schnell), whose schedule is not shifted either.
    `true_cfg` is that of `denoise`; 1 leaves it out. Pictures of more than tile x tile pixels are decoded in
    tiles of that side.
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


def make_settings(
    config: MMDiTConfig,
    steps: int | None = None,
    guidance: float | None = None,
    unope: UnoPE = UnoPE(),
    true_cfg: float | None = None,
) -> Settings:
    """Settings with a model's defaults for what is None: 25 steps and its guidance (4 as in UNO), for
    schnell 4 steps and none. Raises ValueError, also for guidance given to a model that takes none.
    """
    true_cfg = config.true_cfg if true_cfg is None else true_cfg
    if not config.guidance_embed:
        if guidance is not None:
            raise ValueError(f"guidance {guidance} was given, but this model (as FLUX.1-schnell) takes none")
        return Settings(4 if steps is None else steps, None, unope, true_cfg)
    guidance = config.guidance if guidance is None else guidance
    return Settings(25 if steps is None else steps, guidance, unope, true_cfg)


def agreed_unope(wanted: UnoPE | None, trained: UnoPE | None) -> UnoPE:
    """The convention to sample with: the LoRA's, else what is wanted, else UNO's. Raises ValueError if they
    differ.
    """
    if wanted and trained and wanted != trained:
        raise ValueError(
            f"UnoPE {wanted.variant} with offset scale {wanted.offset_scale:g} was asked for, but the LoRA "
            f"was trained with {trained.variant} and {trained.offset_scale:g}; sample it as it was trained"
        )
    return trained or wanted or UnoPE()


def choose_unope(
    variant: Literal["d", "h", "w", "o"] | None, offset_scale: float | None, trained: UnoPE | None
) -> UnoPE:
    """The convention of a command line: the LoRA's, which it may name in part or whole but not contradict."""
    default = trained or UnoPE()
    scale = default.offset_scale if offset_scale is None else offset_scale
    return agreed_unope(UnoPE(variant or default.variant, scale), trained)


def ref_side(config: MMDiTConfig, count: int, ref_size: int | None = None) -> int:
    """The longest side of each of `count` references: `ref_size`, else the model's, for FLUX UNO's 512 for
    one and 320 for several.
    """
    if ref_size is not None:
        if ref_size < images.MULTIPLE:
            raise ValueError(f"the reference size must be at least {images.MULTIPLE} pixels, got {ref_size}")
        return ref_size
    side = config.resolution if count < 2 else int(config.resolution * config.refs_scale)
    return side // images.MULTIPLE * images.MULTIPLE


def prepare_refs(
    config: ModelConfig, refs: Sequence[Image.Image], ref_size: int | None, names: Sequence[str]
) -> tuple[Image.Image, ...]:
    """References as the model sees them. Raises images.ImageError naming the one that cannot be used."""
    longest = ref_side(config.mmdit, len(refs), ref_size)
    return tuple(images.prepare_reference(ref, longest, name) for ref, name in zip(refs, names, strict=True))


def prepare_left(picture: Image.Image, width: int, height: int) -> Image.Image:
    """A picture as the left half of one of width x height, what is too much cut off on both sides. Raises
    ValueError for a width that has no halves of whole tokens.
    """
    if width % (2 * images.MULTIPLE):
        raise ValueError(
            f"the left half is given, so the width must be a multiple of {2 * images.MULTIPLE}, got {width}"
        )
    return ImageOps.fit(images.to_rgb(picture), (width // 2, height), Image.Resampling.LANCZOS)


def check_request(config: ModelConfig, width: int, height: int, seed: int, num_images: int = 1) -> None:
    """Raises ValueError for a size the model cannot make, or seeds that are no 32-bit numbers."""
    token_size(height, width, config.vae.downsampling)
    if width * height > images.MAX_PIXELS:
        raise ValueError(f"{width}x{height} is more than {images.MAX_PIXELS // 1_000_000} megapixels")
    if num_images < 1:
        raise ValueError(f"the number of images must be at least 1, got {num_images}")
    if not 0 <= seed <= MAX_SEED - (num_images - 1):
        raise ValueError(f"seeds must lie between 0 and {MAX_SEED}, got {seed} for {num_images} images")
