"""What `generate` is given as prompts and references -> a list of prompts, and the pictures of each."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

from PIL import Image

from uno_jax.support import images
from uno_jax.support.words import counted

Picture = Image.Image | str | PathLike[str]
"""A picture, or the path of its file."""
References = Picture | Sequence[Picture | Sequence[Picture]]
"""One picture for every prompt; for a single prompt a list of its pictures; for several a list with one item
for each of them, a picture or a list of pictures.
"""


def as_prompts(prompts: Any) -> list[str]:
    """A list of prompts; a single one stands for a list of one.

    Raises ValueError for anything else.
    """
    if isinstance(prompts, str):
        return [prompts]
    if not isinstance(prompts, Sequence):
        raise ValueError(f"prompts must be a string or a list of strings, got {_kind(prompts)}")
    for number, prompt in enumerate(prompts, 1):
        if not isinstance(prompt, str):
            raise ValueError(f"prompt {number} must be a string, got {_kind(prompt)}")
    return list(prompts)


def as_references(refs: Any, prompts: int) -> list[tuple[Image.Image, ...]]:
    """The reference pictures of each of `prompts` prompts, from None or any of `References`; those given as
    paths are read from their files.

    Raises ValueError for another form, FileNotFoundError or images.ImageError for a file.
    """
    if refs is None:
        return [()] * prompts
    if _is_picture(refs):
        return [(_picture(refs, "the reference"),)] * prompts
    if not isinstance(refs, Sequence) or isinstance(refs, bytes):
        raise ValueError(
            "refs must be a picture (PIL.Image or path), a list of them, or a list with one picture or list "
            f"of pictures for each prompt, got {_kind(refs)}"
        )
    if prompts == 1 and not any(isinstance(each, list | tuple) for each in refs):
        refs = [refs]
    if len(refs) != prompts:
        raise ValueError(
            f"{counted(prompts, 'prompt')} but references for {len(refs)}: give one list for each prompt"
        )
    return [_of_prompt(number, given) for number, given in enumerate(refs, 1)]


def _of_prompt(number: int, given: Any) -> tuple[Image.Image, ...]:
    """The references of a prompt: one picture or a list of them."""
    if not isinstance(given, list | tuple):
        given = [given]
    return tuple(_picture(each, f"reference {i} of prompt {number}") for i, each in enumerate(given, 1))


def _is_picture(given: Any) -> bool:
    return isinstance(given, Image.Image | str | PathLike)


def _picture(given: Any, name: str) -> Image.Image:
    if isinstance(given, Image.Image):
        return given
    if isinstance(given, str | PathLike):
        return images.read_image(given)
    raise ValueError(f"{name} must be a picture (PIL.Image) or the path of one, got {_kind(given)}")


def _kind(given: Any) -> str:
    kind = type(given)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
