"""Rows of the manifest: one line a candidate, identified by what it was made from.

RUN/manifest/STAGE.jsonl only grows. A row's id is a hash of its stage, of the settings that decide what
comes out, and of its inputs, which name the rows before it. So a changed setting gives new ids, from its
stage on, and going back to the old setting finds the old rows again: nothing is ever made twice.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Json = dict[str, Any]
ID_LENGTH = 20


class SynthesisError(ValueError):
    """The pipeline cannot go on; the message says what was expected, what came, where, and what to do."""


class Job(NamedTuple):
    """A row to be: what a stage's worker gets."""

    id: str
    inputs: Json


class Failed(NamedTuple):
    """What a worker gives in place of a result for an input that cannot be used."""

    reason: str


class Row(NamedTuple):
    """A job done: its result, or why there is none."""

    id: str
    inputs: Json
    result: Json | None
    failed: str | None = None


def how(default: Any) -> Any:
    """A settings field that is not part of what a row is: batch sizes, places, limits judged afterwards."""
    return dataclasses.field(default=default, metadata={"counts": False})


def counted(settings: Any) -> Any:
    """Settings as plain values, without the fields made by `how`."""
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        fields = [f for f in dataclasses.fields(settings) if f.metadata.get("counts", True)]
        return {field.name: counted(getattr(settings, field.name)) for field in fields}
    if isinstance(settings, tuple | list):
        return [counted(value) for value in settings]
    return settings


def identity(stage: str, settings: Any, inputs: Json) -> str:
    """The id of a row; equal on every machine."""
    text = json.dumps([stage, counted(settings), inputs], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


class Manifest:
    """One stage's rows on disk. A row torn by a crash is cut off when the file is opened for more."""

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> dict[str, Row]:
        """All whole rows by id, those of other settings too. Raises SynthesisError for a foreign file."""
        if not self.path.exists():
            return {}
        content = self.path.read_bytes()
        lines = content[: content.rfind(b"\n") + 1].splitlines()
        rows: dict[str, Row] = {}
        for number, line in enumerate(lines, 1):
            try:
                row = Row(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise SynthesisError(
                    f"{self.path}, line {number}, is no row: {error}. Without the file the stage starts anew"
                ) from None
            if row.id in rows:
                raise SynthesisError(f"{self.path}, line {number}: the id {row.id} is there twice")
            rows[row.id] = row
        return rows

    def append(self, rows: Iterable[Row]) -> None:
        """Adds a batch's rows; they are on disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(row._asdict(), ensure_ascii=False) + "\n" for row in rows)
        with self.path.open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def mend(self) -> None:
        """Cuts off a last line that a crash left torn."""
        if not self.path.exists():
            return
        with self.path.open("rb+") as file:
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)

    def drop(self, ids: Sequence[str]) -> None:
        """Forgets rows, to do them again."""
        left = [row for row in self.read().values() if row.id not in set(ids)]
        aside = self.path.with_suffix(".partial")
        aside.unlink(missing_ok=True)
        Manifest(aside).append(left)
        os.replace(aside, self.path)
