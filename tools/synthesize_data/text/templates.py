"""Texts without a language model: templates such as "{colour} {category}", filled from lists of words."""

import math
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from ...common.hashed_choice import scattered
from ...common.manifest import SynthesisError


def fields(template: str, known: Iterable[str], setting: str) -> list[str]:
    """The fields of a template, in order. Raises SynthesisError for one that is not known."""
    known = sorted(known)
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise SynthesisError(
            f"{setting}: {template!r} cannot be read: {error}; write {{{{ for a brace"
        ) from None
    names = [name for _, name, _, _ in parts if name is not None]
    if wrong := [name for name in names if name not in known]:
        raise SynthesisError(
            f"{setting}: {template!r} has the field {{{wrong[0]}}}; there are {', '.join(known)}"
        )
    if any(form or conversion for _, _, form, conversion in parts):
        raise SynthesisError(
            f"{setting}: {template!r} formats a field; fields stand alone, such as {{{known[0]}}}"
        )
    if not template.strip():
        raise SynthesisError(f"{setting}: a template is empty")
    return names


def filled(
    templates: Sequence[str], words: Mapping[str, Sequence[str]], given: Mapping[str, str], *key: Any
) -> Iterator[str]:
    """Every template with every choice of words, templates taking turns, in an order that `key` decides."""
    turns = zip_longest(*(_one(template, words, given, *key) for template in templates))
    return (text for turn in turns for text in turn if text is not None)


def _one(
    template: str, words: Mapping[str, Sequence[str]], given: Mapping[str, str], *key: Any
) -> Iterator[str]:
    parts = string.Formatter().parse(template)
    drawn = list(dict.fromkeys(name for _, name, _, _ in parts if name is not None and name in words))
    for number in scattered(math.prod(len(words[name]) for name in drawn), template, *key):
        choice = {}
        for name in drawn:
            number, index = divmod(number, len(words[name]))
            choice[name] = words[name][index]
        yield template.format(**choice, **given)
