"""Rows of finished work: one line per row, identified by what it was made from.

A manifest only grows. The id of a row is a hash of its stage, of the settings that decide the result, and of
its inputs, which name the rows before it. A changed setting therefore gives new ids, from its stage on, and
going back to the old setting finds the old rows again: nothing is ever made twice.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from uno_jax.support.atomic import atomic_write
from uno_jax.support.json_files import check_fields, parse_json

from .errors import ToolError

Json = dict[str, Any]
ID_LENGTH = 20
SHOWN = 40  # characters before a fault


class Job(NamedTuple):
    """A row still to be made: what a worker gets."""

    id: str
    inputs: Json


class Failed(NamedTuple):
    """What a worker returns in place of a result for an input that cannot be used."""

    reason: str


class Row(NamedTuple):
    """A finished job: its result, or why there is none."""

    id: str
    inputs: Json
    result: Json | None
    failed: str | None = None


def make_row(id: str, inputs: Json, outcome: Json | Failed) -> Row:
    if isinstance(outcome, Failed):
        return Row(id, inputs, None, outcome.reason)
    return Row(id, inputs, outcome)


def result_of(row: Row) -> Json:
    """The result of a row that did not fail."""
    if row.result is None:
        raise ValueError(f"row {row.id} has no result: {row.failed}")
    return row.result


def not_in_id(default: Any) -> Any:
    """A settings field that is not part of a row's id: batch sizes, places, limits that are applied later."""
    return dataclasses.field(default=default, metadata={"in_id": False})


def id_settings(settings: Any) -> Any:
    """Settings as plain values, without the fields made by `not_in_id`."""
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        fields = [field for field in dataclasses.fields(settings) if field.metadata.get("in_id", True)]
        return {field.name: id_settings(getattr(settings, field.name)) for field in fields}
    if isinstance(settings, tuple | list):
        return [id_settings(value) for value in settings]
    return settings


def identity(stage: str, settings: Any, inputs: Json) -> str:
    """The id of a row; the same on every machine.

    Raises ToolError for names of bytes that are no text.
    """
    text = json.dumps([stage, id_settings(settings), inputs], sort_keys=True, ensure_ascii=False)
    try:
        return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]
    except UnicodeEncodeError as error:
        shown = ascii(text[max(error.start - SHOWN, 0) : error.end])
        raise ToolError(f"{stage}: expected names in UTF-8, got {shown}: name it otherwise") from None


def read_row(line: str | bytes) -> Row:
    """A line of a manifest.

    Raises ValueError.
    """
    fields = {"id": str, "inputs": dict, "result": dict | None}
    found = check_fields(parse_json(line, "the line"), fields, "the line")
    if unknown := sorted(found.keys() - set(Row._fields)):
        raise ValueError(f"unknown fields {', '.join(unknown)}")
    return Row(**found)


class Manifest:
    """A file of rows, one JSON object per line."""

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> dict[str, Row]:
        """Returns all complete rows by id, including those of other settings.

        Raises ToolError when a line is not a row.
        """
        if not self.path.exists():
            return {}
        content = self.path.read_bytes()
        lines = content[: content.rfind(b"\n") + 1].splitlines()
        rows: dict[str, Row] = {}
        for number, line in enumerate(lines, 1):
            try:
                row = read_row(line)
            except ValueError as error:
                raise ToolError(
                    f"{self.path}, line {number}, is not a row: {error}. Delete the file to start again"
                ) from None
            if row.id in rows:
                raise ToolError(f"{self.path}, line {number}: duplicate id {row.id}")
            rows[row.id] = row
        return rows

    def append(self, rows: Iterable[Row]) -> None:
        """Adds the rows of a batch; they are on disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(row._asdict(), ensure_ascii=False) + "\n" for row in rows)
        with self.path.open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def cut_torn_line(self) -> None:
        """Removes an incomplete last line, left by a crash; to be called before rows are appended."""
        if not self.path.exists():
            return
        with self.path.open("rb+") as file:
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)

    def drop(self, ids: Sequence[str]) -> None:
        """Removes rows, so that they are made again."""
        dropped = set(ids)
        left = [row for row in self.read().values() if row.id not in dropped]
        with atomic_write(self.path) as partial:
            Manifest(partial).append(left)
