"""A request for one picture, and the checks of what a model can draw, made before any weight is loaded."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from PIL import Image, ImageOps

from uno_jax.families.family import Inputs, Turn
from uno_jax.families.model import Model
from uno_jax.families.registry import family_of
from uno_jax.families.uno.config import UnoPE
from uno_jax.support import images
from uno_jax.support.memory import refuse_beyond_memory
from uno_jax.support.words import counted

MAX_SEED = 2**32 - 1
# Parts of a picture that not every family takes, by their fields, as options and in lists.
NAMES = {
    "left": "left half (--left, left_path)",
    "turns": "turns",
    "negative": "negative prompt (--negative, negative)",
    "start": "start image (--start-image, start_path)",
    "mask": "mask (--mask, mask_path)",
}


class Request(NamedTuple):
    """One picture to make; `refs` are prepared (`prepare_refs`), `seed` is this picture's own. `left` is the
    left half of a diptych whose right half is to be made, (width / 2, height); `turns` order texts and
    references where they do not end in the prompt (`family.Inputs`). `start` is a picture of this size to
    begin with, `mask` white (in grey) where it is drawn anew.
    """

    prompt: str
    refs: tuple[Image.Image, ...]
    width: int
    height: int
    seed: int
    left: Image.Image | None = None
    turns: tuple[Turn, ...] = ()
    negative: str | None = None
    start: Image.Image | None = None
    mask: Image.Image | None = None


class Shown(Protocol):
    """What a `Request` and a job have in common."""

    @property
    def prompt(self) -> str: ...
    @property
    def refs(self) -> Sequence[Any]: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def left(self) -> Any: ...
    @property
    def turns(self) -> tuple[Turn, ...]: ...
    @property
    def negative(self) -> str | None: ...
    @property
    def start(self) -> Any: ...
    @property
    def mask(self) -> Any: ...


def turns_of(shown: Shown) -> tuple[Turn, ...]:
    """Texts and numbers of references in their order."""
    return shown.turns or (*range(len(shown.refs)), shown.prompt)


def batch_shape(config: Any, settings: Any, shown: Shown) -> Hashable:
    """What pictures of a batch share: size, what is given of them, the order of texts and references, and
    what the family asks of the references' sizes.
    """
    order = tuple(None if isinstance(turn, str) else turn for turn in turns_of(shown))
    sizes = [ref.size for ref in shown.refs]
    own = family_of(config).sampler.batch_shape(config, settings, sizes)
    given = tuple(part is not None for part in (shown.left, shown.start, shown.mask))
    return shown.width, shown.height, given, order, own


def check_takes(config: Any, entry: Any) -> None:
    """Raises ValueError for what the model's family does not take, and for parts that do not go together, of
    an entry or a request.
    """
    for field, name in NAMES.items():
        if getattr(entry, field) and field not in family_of(config).sampler.takes:
            raise ValueError(f"this model takes no {name}")
    if entry.mask is not None and entry.start is None:
        raise ValueError("a mask says where a start image is drawn anew: give that image too")
    if entry.start is not None and entry.left is not None:
        raise ValueError("a left half and a start image do not go together: give one of them")


def check_turns(config: Any, tokenizer: Any, settings: Any, shown: Shown) -> None:
    """Raises ValueError for texts and references that the model cannot take."""
    turns = [turn if isinstance(turn, str) else shown.refs[turn].size for turn in turns_of(shown)]
    family_of(config).sampler.check_turns(config, tokenizer, turns, settings)


def check_pictures(config: Any, settings: Any, shown: Sequence[Shown]) -> None:
    """Raises ValueError for settings and pictures that contradict each other."""
    family_of(config).sampler.check_pictures(settings, shown)


def check_answers(config: Any) -> Callable[[Model, Inputs, Any], Sequence[str]]:
    """How a model of this config answers in text.

    Raises ValueError where it only draws.
    """
    family = family_of(config)
    if family.sampler.answer is None:
        raise ValueError(f"models of the family {family.name} draw only: they write no text")
    return family.sampler.answer


def make_settings(config: Any, unope: UnoPE | None, options: Mapping[str, Any]) -> Any:
    """The settings of a model's family, from its options by name; None, and False for a flag, stand for the
    model's default.

    Raises ValueError for options that the family does not have, and for values that cannot work.
    """
    asked = {**options, "unope": unope}
    given = {name: value for name, value in asked.items() if value is not None and value is not False}
    sampler = family_of(config).sampler
    if unknown := sorted(given.keys() - set(sampler.options)):
        raise ValueError(
            f"this model does not take {', '.join(unknown)}; it takes {', '.join(sampler.options)}"
        )
    return sampler.make_settings(config, **given)


def agreed_unope(wanted: UnoPE | None, trained: UnoPE | None) -> UnoPE | None:
    """The position convention to sample with: the LoRA's, else the wanted one.

    Raises ValueError if both are given and differ.
    """
    if wanted and trained and wanted != trained:
        raise ValueError(
            f"{wanted} was asked for, but the LoRA was trained with {trained}; sample it as it was trained"
        )
    return trained or wanted


def prepare_refs(
    config: Any, refs: Sequence[Image.Image], ref_size: int | None, names: Sequence[str]
) -> tuple[Image.Image, ...]:
    """References as the model sees them.

    Raises images.ImageError naming the one that cannot be used.
    """
    sampler = family_of(config).sampler
    longest = sampler.reference_side(config, len(refs), ref_size)
    return tuple(sampler.prepare_reference(ref, longest, name) for ref, name in zip(refs, names, strict=True))


def prepare_left(picture: Image.Image, width: int, height: int) -> Image.Image:
    """A picture resized and cropped around its centre to the left half of a picture of width x height.

    Raises ValueError for a width whose halves are not whole numbers of tokens.
    """
    if width % (2 * images.MULTIPLE):
        raise ValueError(
            f"the left half is given, so the width must be a multiple of {2 * images.MULTIPLE}, got {width}"
        )
    return ImageOps.fit(images.to_rgb(picture), (width // 2, height), Image.Resampling.LANCZOS)


def prepare_start(picture: Image.Image, width: int, height: int) -> Image.Image:
    """A picture resized and cropped around its centre to width x height."""
    return ImageOps.fit(images.to_rgb(picture), (width, height), Image.Resampling.LANCZOS)


def prepare_mask(picture: Image.Image, width: int, height: int) -> Image.Image:
    """A mask in grey, resized and cropped as `prepare_start` does with the picture."""
    return ImageOps.fit(images.to_rgb(picture).convert("L"), (width, height), Image.Resampling.BOX)


def check_mask(mask: tuple[int, int], start: tuple[int, int]) -> None:
    """Raises ValueError unless a mask has the (width, height) of its start image."""
    if mask != start:
        sizes = [f"{width}x{height}" for width, height in (mask, start)]
        raise ValueError(
            f"the mask has {sizes[0]} pixels, its start image {sizes[1]}: expected the same size"
        )


def check_memory(config: Any, weights: int, sizes: Sequence[tuple[int, int]], batch: int, dtype: str) -> None:
    """Raises RecipeError where a model's bytes of `weights`, or they and a batch of pictures, cannot fit into
    memory; `sizes` are the (width, height) of a picture and of each of its references.
    """
    refuse_beyond_memory(weights, "the model's weights", "give --base int8, or use a machine with more")
    need = weights + family_of(config).sampler.least_bytes(config, batch, sizes, dtype)
    (width, height), *refs = sizes
    shown = f" with {counted(len(refs), 'reference')}" if refs else ""
    what = f"the weights and {counted(batch, 'picture')} of {width}x{height}{shown} at once"
    refuse_beyond_memory(need, what, "give a smaller --batch-size, --width and --height, or --ref-size")


def check_request(config: Any, width: int, height: int, seed: int, num_images: int = 1) -> None:
    """Raises ValueError for a size the model cannot make, or seeds that are not 32-bit numbers."""
    family_of(config).sampler.check_size(config, width, height)
    if width * height > images.MAX_PIXELS:
        raise ValueError(f"{width}x{height} is more than {images.MAX_PIXELS // 1_000_000} megapixels")
    if num_images < 1:
        raise ValueError(f"the number of images must be at least 1, got {num_images}")
    if not 0 <= seed <= MAX_SEED - (num_images - 1):
        raise ValueError(
            f"seeds must lie between 0 and {MAX_SEED}, got {seed} for {counted(num_images, 'image')}"
        )
