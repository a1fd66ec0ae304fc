"""JSON lists of any length -> their elements one at a time, so that memory does not grow with the list.

Two forms, told apart by the first character: an array, and JSON Lines, where each line holds an object. By
the standard library's scanner, not by ijson: that reads half of a character as "?" without an error, and
refuses a list for one integer over 64 bits. It takes 0.6 s of CPU for 300,000 pairs, this 1.0 s.
"""

import io
import json
import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from uno_jax.support.json_files import DECODER, MAX_DEPTH, JsonError, JsonFault, check_depth, reason
from uno_jax.support.regular_file import check_regular_file

CHUNK = 1 << 22  # characters; no element is longer
BETWEEN = re.compile(r"[ \t\r\n]*")
FOLLOWING = tuple(" \t\r\n,]{")


def decoded(file: BinaryIO) -> io.TextIOWrapper:
    """A file's text by its byte order mark, or else as UTF-8."""
    buffered = io.BufferedReader(cast(io.RawIOBase, file))
    return io.TextIOWrapper(buffered, json.detect_encoding(buffered.peek(4)[:4]), newline="")


def read_list_file(path: str | os.PathLike[str], fault: JsonFault = JsonError) -> Iterator[Any]:
    """The elements of a local file's list; see `read_elements`.

    Raises OSError where it cannot be read.
    """
    check_regular_file(path)
    with open(path, "rb", buffering=0) as file, decoded(cast(BinaryIO, file)) as stream:
        yield from read_elements(stream, os.fspath(path), fault)


def read_elements(stream: io.TextIOBase, name: str, fault: JsonFault = JsonError) -> Iterator[Any]:
    """The elements of an array, or the values of JSON Lines, as json.load reads them.

    Raises what `fault` makes of a message that begins with `name`: for anything else, for text after the end
    and for bytes of another encoding.
    """
    window = _Window(stream)
    try:
        first = window.next()
        if first == "[":
            yield from _array(window)
        elif first == "{":
            while window.next():
                yield window.value()
        elif first:
            raise ValueError(f"line {window.line()}: expected [ or {{, got {first!r}")
        else:
            raise ValueError("the file is empty")
    except (ValueError, RecursionError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise fault(f"{name} is not readable JSON: {reason(error)}") from None
        raise fault(f"{name} is not readable JSON at record {window.count}: {reason(error)}") from None


def _array(window: "_Window") -> Iterator[Any]:
    window.at += 1
    more = window.next() != "]"
    while more:
        yield window.value()
        if (char := window.next()) not in (",", "]"):
            raise ValueError(f"line {window.line()}: expected , or ] after the record before, got {char!r}")
        more = char == ","
        window.at += more
    window.at += 1
    if window.next():
        raise ValueError(f"line {window.line()}: more text after the end of the list")


class _Window:
    """The part of a stream that is being read: `text`, from `at` on. `count` values were read before."""

    def __init__(self, stream: io.TextIOBase):
        self.stream, self.text, self.at = stream, "", 0
        self.lines, self.count = 1, 0

    def next(self) -> str:
        """The next character that is not white space, where `at` then stands; "" at the end.

        Raises ValueError for white space of more than two chunks.
        """
        for _ in range(4):
            self.at = cast(re.Match[str], BETWEEN.match(self.text, self.at)).end()
            if self.at < len(self.text) or not self.read_on():
                return self.text[self.at : self.at + 1]
        raise ValueError(f"line {self.line()}: more than {2 * CHUNK:,} characters of white space")

    def read_on(self) -> bool:
        """Drops the text before `at` and adds a chunk; whether there was one."""
        if added := self.stream.read(CHUNK):
            self.lines += self.text.count("\n", 0, self.at)
            self.text, self.at = self.text[self.at :] + added, 0
        return bool(added)

    def value(self) -> Any:
        """The next value.

        Raises ValueError or RecursionError.
        """
        self.next()
        while True:
            fault, end = None, len(self.text)
            try:
                found, end = DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                fault = error
            # Even a value without fault may go on after the text, as 12 does to 123 or to 12e3.
            whole = fault is None and self.text[end : end + 1] in FOLLOWING
            if not whole and len(self.text) - self.at <= 2 * CHUNK and self.read_on():
                continue
            if fault is not None:
                raise ValueError(reason(fault, self.lines))
            if self.text.count("[", self.at, end) + self.text.count("{", self.at, end) > MAX_DEPTH:
                check_depth(found)
            self.at = end
            self.count += 1
            return found

    def line(self) -> int:
        """The line of `at`."""
        return self.lines + self.text.count("\n", 0, self.at)
