"""A list's entries -> what each says, or why it cannot be used. Keys of other programs are ignored.

There are two forms, which one list may mix:
- UNO's own lists: {"prompt", "image_paths": [references] or "image_path", "image_tgt_path"}, and optionally
  "image_sizes": [[width, height] of the target, of each reference], "score", from 0 to 4, which
  `uno-synthesize` writes, and "image_tgt_mask_path": a picture of the target's shape, white where its
  subjects are;
- UNO-1M's labels: {"img_path1", "img_path2", "caption": {"img_path2", …}, "vlm_filter_cot": {"score_final",
  …}}; picture 2 is the target, its caption the prompt, picture 1 the reference.
"""

import math
import re
from collections.abc import Collection
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any, NamedTuple

from uno_jax.support.json_files import shortened

MAX_REFS = 4
BEST_SCORE = 4
PAPER_SCORE = 4.0  # what UNO-1M's labels need where no threshold is named
SURROGATE = re.compile("[\ud800-\udfff]")
REFERENCES = frozenset({"image_paths", "image_path"})
PAIR_KEYS = REFERENCES | {"prompt", "image_tgt_path", "image_sizes", "score", "image_tgt_mask_path"}
LIKE = 0.85  # share of letters in common from which on a key is another one misspelt


class DataError(ValueError):
    """A list of records cannot be used; the message names the list and its first bad records."""


class Entry(NamedTuple):
    """What an entry says, its paths as written; `ratios` are heights/widths of target and references."""

    prompt: str
    target: str
    refs: tuple[str, ...]
    ratios: tuple[float, ...] | None = None
    mask: str | None = None


def parse_entry(entry: Any, min_score: float | None) -> Entry | None:
    """What `entry` says; None when its score is below `min_score`. Without a threshold labels need
    PAPER_SCORE and pairs no score.

    Raises DataError with the reason why it cannot be used.
    """
    if not isinstance(entry, dict):
        raise DataError(f"expected an object, got {shortened(entry)}")
    parsed = _parse_label(entry, min_score) if is_label(entry) else _parse_pair(entry, min_score)
    if parsed is None:
        return None
    if not parsed.prompt.strip():
        raise DataError("the prompt is empty")
    if len(parsed.refs) > MAX_REFS:
        raise DataError(f"{len(parsed.refs)} references, at most {MAX_REFS} can be used")
    texts = (parsed.prompt, *paths_of(parsed))
    if "\0" in "".join(texts):
        raise DataError("the prompt or a path has a NUL character")
    if SURROGATE.search("".join(texts)):
        raise DataError("invalid Unicode (a lone surrogate)")
    return parsed


def paths_of(entry: Entry) -> tuple[str, ...]:
    """Target, references and, if there is one, the mask."""
    return (entry.target, *entry.refs, *(() if entry.mask is None else (entry.mask,)))


def is_label(entry: dict[str, Any]) -> bool:
    """Whether an entry is one of UNO-1M's labels."""
    return "img_path1" in entry


def prompt_of(entry: dict[str, Any]) -> str:
    """The prompt of an entry of either form.

    Raises DataError where there is none.
    """
    if is_label(entry):
        caption = entry.get("caption")
        prompt = caption.get("img_path2") if isinstance(caption, dict) else None
        if not isinstance(prompt, str):
            raise DataError(f'"caption" must hold the text of "img_path2", got {shortened(prompt)}')
        return prompt
    return _text(entry, "prompt", "a string")


def references_of(entry: dict[str, Any]) -> tuple[str, ...]:
    """The paths of an entry's references, as written: "image_paths", or else "image_path".

    Raises DataError for anything but paths.
    """
    if is_label(entry):
        return (_path(entry, "img_path1"),)
    refs = entry.get("image_paths", [])
    if "image_path" in entry and not refs:
        refs = [entry["image_path"]]
    if not isinstance(refs, list) or not all(isinstance(ref, str) and ref for ref in refs):
        raise DataError(f'"image_paths" must be a list of paths, "image_path" a path, got {shortened(refs)}')
    return tuple(refs)


def check_keys(entry: dict[str, Any], own: Collection[str]) -> None:
    """Raises DataError for a key that is a misspelling of one of `own` that the entry lacks."""
    if problem := _misspelt(frozenset(entry), frozenset(own)):
        raise DataError(problem)


@lru_cache(4096)
def _misspelt(keys: frozenset[str], own: frozenset[str]) -> str:
    lacking = own - keys - (REFERENCES if keys & REFERENCES else frozenset())
    for key in sorted(keys - own - PAIR_KEYS):
        for wanted in sorted(lacking):
            if _alike(key.lower(), wanted):
                return f'unknown key {shortened(key)}: did you mean "{wanted}"?'
    return ""


def _alike(key: str, wanted: str) -> bool:
    """Whether `key` is `wanted` misspelt. A plural is not: "scores" may be another program's."""
    if key.rstrip("s") == wanted.rstrip("s") and key != wanted:
        return False
    return sorted(key) == sorted(wanted) or SequenceMatcher(None, key, wanted).ratio() >= LIKE


def _text(entry: dict[str, Any], name: str, what: str) -> str:
    if name not in entry:
        raise DataError(f'"{name}" is missing; the entry has {shortened(sorted(entry))}')
    if not isinstance(entry[name], str):
        raise DataError(f'"{name}" must be {what}, got {shortened(entry[name])}')
    return str(entry[name])


def _path(entry: dict[str, Any], name: str) -> str:
    if not (path := _text(entry, name, "a path")):
        raise DataError(f'"{name}" is empty, expected a path')
    return path


def _parse_pair(entry: dict[str, Any], min_score: float | None) -> Entry | None:
    check_keys(entry, PAIR_KEYS)
    if min_score is not None and _score(entry, "score") < min_score:
        return None
    prompt, target, refs = prompt_of(entry), _path(entry, "image_tgt_path"), references_of(entry)
    sizes = entry.get("image_sizes")
    ratios = None if sizes is None else _ratios(sizes, 1 + len(refs))
    mask = _path(entry, "image_tgt_mask_path") if "image_tgt_mask_path" in entry else None
    return Entry(prompt, target, refs, ratios, mask)


def _ratios(sizes: Any, count: int) -> tuple[float, ...]:
    try:
        if not any(isinstance(side, bool) for size in sizes for side in size):
            ratios = tuple(height / width for width, height in sizes)
            if len(ratios) == count and all(0 < ratio < math.inf for ratio in ratios):
                return ratios
    except (TypeError, ValueError, ArithmeticError):
        pass
    raise DataError(
        f'"image_sizes" must be {count} pairs [width, height], target first, got {shortened(sizes)}'
    )


def score_of(entry: dict[str, Any]) -> float | None:
    """The score of an entry of either form; None where it has none that can be used."""
    filtered = entry.get("vlm_filter_cot")
    holder = filtered if is_label(entry) and isinstance(filtered, dict) else entry
    try:
        return _score(holder, "score_final" if is_label(entry) else "score")
    except DataError:
        return None


def _score(entry: dict[str, Any], name: str) -> float:
    score = entry.get(name)
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= BEST_SCORE:
        raise DataError(f'corrupt score: "{name}" must be between 0 and {BEST_SCORE}, got {shortened(score)}')
    return float(score)


def label_threshold(min_score: float | None) -> float:
    """The score that UNO-1M's labels need."""
    return PAPER_SCORE if min_score is None else min_score


def _parse_label(entry: dict[str, Any], min_score: float | None) -> Entry | None:
    filtered = entry.get("vlm_filter_cot")
    score = _score(filtered if isinstance(filtered, dict) else {}, "score_final")
    if score < label_threshold(min_score):
        return None
    refs = references_of(entry)
    return Entry(prompt_of(entry), _path(entry, "img_path2"), refs)
