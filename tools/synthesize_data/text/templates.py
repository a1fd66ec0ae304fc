"""Texts without a language model: templates such as "{colour} {category}", filled from lists of words."""

import math
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from ...common.errors import ToolError
from ...common.hashed_choice import scattered


def template_fields(template: str, known: Iterable[str], setting: str) -> list[str]:
    """Returns the fields of a template, in order.

    Raises ToolError for an unknown one.
    """
    known = sorted(known)
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ToolError(
            f"{setting}: {template!r} cannot be parsed: {error}; write {{{{ for a brace"
        ) from None
    names = [name for _, name, _, _ in parts if name is not None]
    if wrong := [name for name in names if name not in known]:
        raise ToolError(
            f"{setting}: {template!r} has the unknown field {{{wrong[0]}}}; known are {', '.join(known)}"
        )
    if any(form or conversion for _, _, form, conversion in parts):
        raise ToolError(
            f"{setting}: {template!r} formats a field; write fields alone, such as {{{known[0]}}}"
        )
    if not template.strip():
        raise ToolError(f"{setting}: a template is empty")
    return names


def fill_templates(
    templates: Sequence[str], words: Mapping[str, Sequence[str]], given: Mapping[str, str], *key: Any
) -> Iterator[str]:
    """Yields every template with every choice of words, templates in turn, in an order that `key` decides."""
    turns = zip_longest(*(_fill_template(template, words, given, *key) for template in templates))
    return (text for turn in turns for text in turn if text is not None)


def _fill_template(
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
