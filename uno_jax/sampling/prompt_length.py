"""Prompts that are longer than the model reads -> the lines that say so."""

from collections.abc import Iterable
from typing import Any

from uno_jax.families.registry import family_of
from uno_jax.support.words import counted

NAMED = 3  # prompts that are shown
BEGINNING, DROPPED = 40, 200  # characters of a prompt, and of what is dropped, that are shown


def cut_prompts(config: Any, prompts: Iterable[str]) -> list[str]:
    """A line for each of the first different prompts that are cut, and one for the number of the others."""
    cut = family_of(config).sampler.prompt_cut
    found = [(prompt, part) for prompt in dict.fromkeys(prompts) if (part := cut(config, prompt))]
    lines = [
        f"warning: the prompt {_shown(prompt, BEGINNING)} has {part.tokens} tokens, of which the model reads "
        f"{part.kept}; dropped: {_shown(part.dropped, DROPPED)}"
        for prompt, part in found[:NAMED]
    ]
    more = len(found) - NAMED
    return lines + ([f"warning: {counted(more, 'more prompt')} cut"] if more > 0 else [])


def _shown(text: str, length: int) -> str:
    return repr(text if len(text) <= length else f"{text[:length]}…")
