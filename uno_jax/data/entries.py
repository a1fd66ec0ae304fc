"""A list's text -> its entries -> what each says, or why it cannot be used.

There are two forms, which one list may mix:
- UNO's own lists: {"prompt", "image_paths": [references] or "image_path", "image_tgt_path"}, and optionally
  "image_sizes": [[width, height] of the target, of each reference] and "score", from 0 to 4, which
  `uno-synthesize` writes;
- UNO-1M's labels: {"img_path1", "img_path2", "caption": {"img_path2", …}, "vlm_filter_cot": {"score_final",
  …}}; picture 2 is the target, its caption the prompt, picture 1 the reference.
"""

import io
import json
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

CHUNK = 1 << 22  # characters; no entry is longer
MAX_REFS = 4
BEST_SCORE = 4
PAPER_SCORE = 4.0  # what UNO-1M's labels need where no threshold is named
BETWEEN = re.compile(r"[ \t\r\n]*")
SURROGATE = re.compile("[\ud800-\udfff]")


class DataError(ValueError):
    """A list of records cannot be used; the message names the list and its first bad records."""


class Entry(NamedTuple):
    """What an entry says, its paths as written; `ratios` are heights/widths of target and references."""

    prompt: str
    target: str
    refs: tuple[str, ...]
    ratios: tuple[float, ...] | None = None


def read_entries(stream: io.TextIOBase, name: str) -> Iterator[Any]:
    """The elements of a JSON list as json.load reads them, one at a time: memory does not grow with the list.

    Not by ijson: its C backend refuses NaN and Infinity and reads half of a character as "?" without an
    error, where json.load reads them. It takes 0.7 s of CPU for 300,000 pairs, this 0.8 s, its Python 13 s.

    Raises DataError for anything but a list with at least one element.
    """
    scan = json.JSONDecoder().raw_decode
    text = stream.read(CHUNK)
    at = _skip(text, 0)
    if text[at : at + 1] != "[":
        raise DataError(_not_a_list(text, stream, name))
    at = _skip(text, at + 1)
    more, count, comma = True, 0, False
    while comma or text[at : at + 1] != "]":
        try:
            entry, end = scan(text, at)
            end = _skip(text, end)
            if text[end : end + 1] not in (",", "]") or (text[end] == "," and more and end + 1 == len(text)):
                raise json.JSONDecodeError("expected , or ]", text, end)
        except json.JSONDecodeError as error:
            if not more or len(text) - at > 2 * CHUNK:
                raise DataError(f"{name} is not readable JSON at record {count}: {error.msg}") from None
            added = stream.read(CHUNK)
            more, text = bool(added), text[at:] + added
            at = _skip(text, 0)
            continue
        yield entry
        count += 1
        comma = text[end] == ","
        at = _skip(text, end + 1) if comma else end
    _check_end(text[at + 1 :], stream, name)


def _check_end(rest: str, stream: io.TextIOBase, name: str) -> None:
    while rest:
        if _skip(rest, 0) < len(rest):
            raise DataError(f"{name} is not readable JSON: more text after the end of the list")
        rest = stream.read(CHUNK)


def _skip(text: str, at: int) -> int:
    found = BETWEEN.match(text, at)
    return found.end() if found else at


def _not_a_list(text: str, stream: io.TextIOBase, name: str) -> str:
    try:
        found = json.loads(text + stream.read())
    except ValueError as error:
        return f"{name} is not readable JSON: {error}"
    return f"{name} must be a list of at least one record, got {type(found).__name__}"


def parse_entry(entry: Any, min_score: float | None) -> Entry | None:
    """What `entry` says; None when its score is below `min_score`. Without a threshold labels need
    PAPER_SCORE and pairs no score.

    Raises DataError with the reason why it cannot be used.
    """
    if not isinstance(entry, dict):
        raise DataError(f"expected an object, got {type(entry).__name__}")
    parsed = _parse_label(entry, min_score) if "img_path1" in entry else _parse_pair(entry, min_score)
    if parsed is None:
        return None
    if not parsed.prompt.strip():
        raise DataError("the prompt is empty")
    if len(parsed.refs) > MAX_REFS:
        raise DataError(f"{len(parsed.refs)} references, at most {MAX_REFS} can be used")
    texts = (parsed.prompt, parsed.target, *parsed.refs)
    if not all(texts) or "\0" in "".join(texts):
        raise DataError("a path is empty, or a text has a NUL character")
    if SURROGATE.search("".join(texts)):
        raise DataError("invalid Unicode (a lone surrogate)")
    return parsed


def _parse_pair(entry: dict[str, Any], min_score: float | None) -> Entry | None:
    if min_score is not None and _score(entry, "score") < min_score:
        return None
    refs = entry.get("image_paths", [entry["image_path"]] if "image_path" in entry else [])
    prompt, target = entry.get("prompt"), entry.get("image_tgt_path")
    if not isinstance(prompt, str):
        raise DataError(f'"prompt" must be a string, got {prompt!r}')
    if not isinstance(target, str):
        raise DataError(f'"image_tgt_path" must be a path, got {target!r}')
    if not isinstance(refs, list) or not all(isinstance(ref, str) for ref in refs):
        raise DataError(f'"image_paths" must be a list of paths, got {refs!r}')
    sizes = entry.get("image_sizes")
    return Entry(prompt, target, tuple(refs), None if sizes is None else _ratios(sizes, 1 + len(refs)))


def _ratios(sizes: Any, count: int) -> tuple[float, ...]:
    try:
        ratios = tuple(height / width for width, height in sizes)
        if len(ratios) == count and all(0 < ratio < math.inf for ratio in ratios):
            return ratios
    except (TypeError, ValueError, ZeroDivisionError):
        pass
    raise DataError(f'"image_sizes" must be {count} pairs [width, height], target first, got {sizes!r}')


def _score(entry: dict[str, Any], name: str) -> float:
    score = entry.get(name)
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= BEST_SCORE:
        raise DataError(f'corrupt score: "{name}" must be between 0 and {BEST_SCORE}, got {score!r}')
    return float(score)


def label_threshold(min_score: float | None) -> float:
    """The score that UNO-1M's labels need."""
    return PAPER_SCORE if min_score is None else min_score


def _parse_label(entry: dict[str, Any], min_score: float | None) -> Entry | None:
    caption, filtered = entry.get("caption"), entry.get("vlm_filter_cot")
    score = _score(filtered if isinstance(filtered, dict) else {}, "score_final")
    if score < label_threshold(min_score):
        return None
    prompt = caption.get("img_path2") if isinstance(caption, dict) else None
    if not isinstance(prompt, str):
        raise DataError(f'"caption" must hold the text of "img_path2", got {prompt!r}')
    reference, target = entry["img_path1"], entry.get("img_path2")
    if not isinstance(reference, str) or not isinstance(target, str):
        raise DataError(f'"img_path1" and "img_path2" must be paths, got {reference!r} and {target!r}')
    return Entry(prompt, target, (reference,))
