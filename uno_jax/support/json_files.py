"""JSON documents -> values. Every JSON file is read here, or by `json_lists` where it may be long.

Text is UTF-8 with or without a byte order mark, or UTF-16 or UTF-32. NaN and infinite values are read as
numbers, as Python writes them; whoever needs a finite number checks that. An object that has a name twice is
refused, and so is text after the end.
"""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from uno_jax.support.regular_file import check_regular_file
from uno_jax.support.settings import from_json

MAX_BYTES = 1 << 28  # of a document that is read whole
MAX_DEPTH = 64
JsonFault = Callable[[str], Exception]


class JsonError(ValueError):
    """A file is not the JSON that was expected; the message names it."""


def read_json(path: str | os.PathLike[str], fault: JsonFault = JsonError) -> Any:
    """The value in a file of at most MAX_BYTES.

    Raises OSError where it cannot be read, and what `fault` makes of a message where it is not JSON.
    """
    check_regular_file(path)
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise fault(f"{os.fspath(path)} is not a document of this program: it has over {MAX_BYTES >> 20} MiB")
    return parse_json(content, os.fspath(path), fault)


def parse_json(content: str | bytes, name: str, fault: JsonFault = JsonError) -> Any:
    """The value of a text.

    Raises what `fault` makes of a message that begins with `name`.
    """
    try:
        text = content if isinstance(content, str) else content.decode(json.detect_encoding(content))
        value = DECODER.decode(text.removeprefix("\ufeff"))
        check_depth(value)
    except (ValueError, RecursionError) as error:
        raise fault(f"{name} is not readable JSON: {reason(error)}") from None
    return value


def read_object(
    path: str | os.PathLike[str], fields: Mapping[str, Any], fault: JsonFault = JsonError
) -> dict[str, Any]:
    """The JSON object in a file, after checking that it has these fields with values of these types, written
    as for `settings.from_dict`. It may have others.

    Raises like `read_json`.
    """
    return check_fields(read_json(path, fault), fields, os.fspath(path), fault)


def check_fields(
    value: Any, fields: Mapping[str, Any], name: str, fault: JsonFault = JsonError
) -> dict[str, Any]:
    """The value itself, if it is an object with these fields; see `read_object`."""
    if not isinstance(value, dict):
        wanted = f"an object with {', '.join(fields)}" if fields else "an object"
        raise fault(f"{name} must hold {wanted}, got {shortened(value)}")
    if missing := [field for field in fields if field not in value]:
        raise fault(f"{name} lacks {', '.join(missing)}")
    try:
        return value | {field: from_json(kind, value[field], field) for field, kind in fields.items()}
    except ValueError as error:
        raise fault(f"{name}: {error}") from None


def check_depth(value: Any) -> None:
    """Raises ValueError for lists and objects that are nested more than MAX_DEPTH deep."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner = [
            child
            for each in level
            if isinstance(each, dict | list)
            for child in (each.values() if isinstance(each, dict) else each)
        ]
        if not (level := [child for child in inner if isinstance(child, dict | list)]):
            return
    raise ValueError(TOO_DEEP)


TOO_DEEP = f"lists and objects are nested more than {MAX_DEPTH} deep"


def reason(error: Exception, line: int = 1) -> str:
    """Why a text that begins in `line` could not be read."""
    if isinstance(error, RecursionError):
        return TOO_DEEP
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not {error.encoding.upper()} ({error.reason}); save it as UTF-8"
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    what = "more text after the end" if error.msg == "Extra data" else error.msg
    return f"line {line - 1 + error.lineno}, column {error.colno}: {what}"


def shortened(value: Any) -> str:
    """A JSON value in a message: its text, at most 60 characters of it, that can be printed."""
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 60 else f"{text[:60]}…"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the name {twice!r} twice")
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_unique)
