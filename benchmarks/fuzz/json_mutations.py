"""A JSON file -> one like it that no program wrote: bytes, values, nesting or encoding changed by a seed."""

import copy
import json
import math
import random
from collections.abc import Callable
from typing import Any

Draw = random.Random
Mutation = Callable[[Draw, bytes], bytes]

DEEP = 30_000
STRANGE = (
    *(None, True, False, 0, -1, 1, 3, 2**31, 2**63, 2**70, 10**400, -(10**20)),
    *(0.5, -0.0, 1e-300, 1e300, math.nan, math.inf, -math.inf),
    *("", " ", "\0", "\ud83d", "\u202e", "../..", "/", "a\\b.png", "http://", "s3://a/b", "$x^", "1", "NaN"),
    *([], {}, [[]], [None], {"": ""}, {"a": {"b": []}}, "x" * 5000, [0] * 500),
)


def mutated(draw: Draw, content: bytes) -> bytes:
    """The content after one to three mutations."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        content = draw.choice(MUTATIONS)(draw, content)
    return content


def _change_bytes(draw: Draw, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8))):
        if changed:
            changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def _cut(draw: Draw, content: bytes) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _remove(draw: Draw, content: bytes) -> bytes:
    start = draw.randrange(len(content) + 1)
    return content[:start] + content[start + draw.choice((1, 1, 4, 40)) :]


def _repeat(draw: Draw, content: bytes) -> bytes:
    start, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    return content[:end] + content[start:end] + content[end:]


def _insert(draw: Draw, content: bytes) -> bytes:
    at = draw.randrange(len(content) + 1)
    signs = (
        b",",
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b"\\",
        b"\\ud83d",
        b"\0",
        b"\xff",
        b"NaN",
        b"1e999",
        b"-",
        b"\n",
    )
    return content[:at] + draw.choice(signs) + content[at:]


def _append(draw: Draw, content: bytes) -> bytes:
    """As `cat one two` makes it."""
    return content + draw.choice((content, b"[]", b"]", b"junk", b"\0", b" \n\t", b"\n" + content))


def _nest(draw: Draw, content: bytes) -> bytes:
    opening = draw.choice((b"[", b'{"a":', b'[{"a":'))
    at = draw.choice((0, len(content), draw.randrange(len(content) + 1)))
    return content[:at] + opening * draw.choice((65, 1_500, DEEP)) + content[at:]


def _encode(draw: Draw, content: bytes) -> bytes:
    encoding = draw.choice(("utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1", "cp1252"))
    return content.decode("utf-8", "replace").encode(encoding, "replace")


def _change_value(draw: Draw, content: bytes) -> bytes:
    """Replaces, removes, adds, renames or wraps one value, at any depth."""
    lines = content.count(b"\n") > 1 and content.startswith(b"{")
    try:
        whole = [json.loads(line) for line in content.splitlines()] if lines else [json.loads(content)]
        places = list(_places(whole))
    except (ValueError, RecursionError):
        return _change_bytes(draw, content)
    holder, key = draw.choice(places)
    _change_at(draw, holder, key)
    if lines:
        return b"".join(json.dumps(value).encode() + b"\n" for value in whole)
    return json.dumps(whole[0] if whole else None).encode()


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every holder and key of a nested value; a holder is a list or an object."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, child in inner:
        found += [(value, key), *_places(child)]
    return found


def _change_at(draw: Draw, holder: Any, key: Any) -> None:
    strange = copy.deepcopy(draw.choice(STRANGE))
    kind = draw.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[draw.choice(("", "x", f"{key}s", f"{key} ", key.upper(), "\ud83d"))] = holder.pop(key)
    elif kind == 1:
        holder.append(holder[key])
    elif kind == 2:
        holder[key] = draw.choice(([holder[key]], {"a": holder[key]}, str(holder[key])))
    elif kind == 3 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] = draw.choice((-1, 2, 10**9, 10**308)) * holder[key]
    else:
        holder[key] = strange


MUTATIONS: tuple[Mutation, ...] = (
    _change_bytes,
    _cut,
    _remove,
    _repeat,
    _insert,
    _append,
    _nest,
    _encode,
    *(_change_value,) * 24,  # the only one that is still JSON
)
