"""Long lists: arrays and JSON Lines of any white space, encoding and length, read to their end."""

import io
import json
import math
import random

import pytest

from uno_jax.support.json_lists import CHUNK, decoded, read_elements


class ListError(Exception):
    pass


def read(content: bytes) -> list:
    return list(read_elements(decoded(io.BytesIO(content)), "list", ListError))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the file is empty"),
        (" \n", "the file is empty"),
        ("[{", "at record 0: line 1, column 3"),
        ("[", "at record 0: line 1"),
        ('[{"a": 1} {"b": 2}]', "at record 1: line 1: expected , or ]"),
        ("[1, 2", "at record 2: line 1: expected , or ] after the record before, got ''"),
        ('{"a": ', "at record 0: line 1"),
        ('{"a": 1}\n{"b": 2\n', "at record 1: line 3"),
        ('["\\x"]', "at record 0: line 1"),
        ("[1,]", "at record 1: line 1"),
        ("[,1]", "at record 0: line 1"),
        ("[1] 2", "more text after the end of the list"),
        ("[1]\n[2]", "at record 1: line 2: more text after the end of the list"),
        ("[]]", "more text after the end of the list"),
        ('[\n{"a": 1},\n{"b" 2}]', "at record 1: line 3, column 6"),
        ('[{"a": 1, "a": 2}]', "has the name 'a' twice"),
        ("[" * 200_000, "nested more than 64 deep"),
        ('[{"a":' * 50 + "1" + "}]" * 50, "nested more than 64 deep"),
        ("3", "expected \\[ or {, got '3'"),
        ("<html>", "expected \\[ or {, got '<'"),
    ],
    ids=lambda value: value[:20],
)
def test_other_text_is_refused_with_the_place(text, reason):
    with pytest.raises(ListError, match=f"^list is not readable JSON.*{reason}"):
        read(text.encode())


def test_bytes_of_another_encoding_are_refused():
    with pytest.raises(ListError, match="byte 2 is not UTF-8 .*; save it as UTF-8"):
        read('["é"]'.encode("latin-1"))


ENTRIES = [{"prompt": "ein Löwe 😀", "n": 2**70, "half": "\ud83d"}, {"a": [[]], "b": {}}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("form", ["array", "indented", "lines", "lines of Windows"])
def test_every_form_is_read_in_every_encoding(form, encoding):
    lines = [json.dumps(entry) for entry in ENTRIES]
    text = {
        "array": json.dumps(ENTRIES),
        "indented": json.dumps(ENTRIES, indent=2),
        "lines": "\n".join(lines) + "\n",
        "lines of Windows": "\r\n\r\n".join(lines),
    }[form]
    assert read(text.encode(encoding)) == ENTRIES


def test_nan_and_numbers_without_end_are_numbers():
    nan, *infinite = read(b"[NaN, Infinity, -Infinity, 1e999]")
    assert math.isnan(nan) and infinite == [math.inf, -math.inf, math.inf]


def test_entries_are_whole_across_chunks():
    entries = ["x" * (CHUNK // 3 + i) for i in range(10)] + [{"a": [1, {"b": "]"}]}, 123]
    for separators in ((",", ":"), (" ,\n", ": ")):
        assert read(json.dumps(entries, separators=separators).encode()) == entries


@pytest.mark.parametrize("before", [-3, -2, -1, 0, 1])
def test_white_space_may_lie_across_the_boundary_of_a_chunk(before):
    first = "[" + json.dumps("x" * (CHUNK - 12 - before)) + ","
    assert len(read((first + " " * 20 + "12" + " " * 20 + "]").encode())) == 2


class Trickle(io.StringIO):
    """A stream that gives a few characters at a time, so that everything is cut somewhere."""

    def __init__(self, text: str, most: int):
        super().__init__(text)
        self.most = most

    def read(self, size=-1):
        return super().read(min(size, self.most) if size > 0 else size)


def values(draw: random.Random, depth: int = 3):
    """A value of JSON as json.load reads it: nested, of all characters, numbers and literals."""
    kind = draw.randrange(7 if depth else 5)
    if kind == 0:
        return "".join(draw.choices('a"\\/\b\n\x00\x7fé√😀\ud83d[]{},: ', k=draw.randrange(9)))
    if kind == 1:
        return draw.choice([0, -1, 2**70, draw.randrange(10**6)])
    if kind == 2:
        return draw.choice([-0.0, 5e-324, 1e300, math.nan, math.inf, -math.inf, draw.random()])
    if kind == 3:
        return draw.choice([True, False, None])
    if kind == 4:
        return draw.choice([[], {}, ""])
    some = [values(draw, depth - 1) for _ in range(draw.randrange(4))]
    return some if kind == 5 else {f"{number}\t": value for number, value in enumerate(some)}


@pytest.mark.parametrize("seed", range(60))
def test_entries_are_those_that_json_reads(seed):
    draw = random.Random(seed)
    entries = [values(draw) for _ in range(draw.randrange(6))]
    space = draw.choice(["", " ", " \n\t\r "])
    text = json.dumps(
        entries,
        ensure_ascii=draw.random() < 0.5,
        indent=draw.choice([None, 1]),
        separators=(f"{space},{space}", f"{space}:{space}"),
    )
    text = f"{space}{text}{space}"
    for stream in (
        io.StringIO(text),
        Trickle(text, draw.randint(6, 12)),
    ):  # repr: NaN is not equal to itself, -0.0 is to 0
        assert repr(list(read_elements(stream, "list"))) == repr(json.loads(text))
