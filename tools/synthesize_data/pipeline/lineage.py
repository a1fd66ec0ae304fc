"""Kept pairs -> training samples, each with the row it came from."""

from collections.abc import Iterator
from typing import NamedTuple

from ...common.manifest import Row, result_of
from .import_lists import imported_pairs
from .stage import Rows


class Sample(NamedTuple):
    """A training sample; picture paths are relative to the run."""

    prompt: str
    references: tuple[str, ...]
    target: str
    subjects: tuple[str, ...]
    """All subjects in the target."""
    score: float
    """Likeness from 0 to 4; the lowest of its references."""
    row: Row
    """The row of the last filter, whose id a person's marks name."""


class Said(NamedTuple):
    """What a pair is to show: the prompt of its second picture, and all subjects of that."""

    prompt: str
    subjects: tuple[str, ...]


def said_of_pairs(run: Rows) -> dict[str, Said]:
    """By the parents of the rows of both filters."""
    origins = [*run.rows("split"), *imported_pairs(run)]
    said = {row.id: said_of(row) for row in origins}
    drawn = {
        row.id: Said(row.inputs["prompt"], (row.inputs["subject"],)) for row in run.rows("second-reference")
    }
    said |= drawn
    return said | {row.id: said[row.inputs["parent"]] for row in run.rows("filter-dino")}


def said_of(origin: Row) -> Said:
    """Of panels or of an imported pair."""
    subjects = filter(None, (origin.inputs["subject"], origin.inputs.get("other")))
    return Said(origin.inputs.get("caption_2") or origin.inputs["prompt"], tuple(subjects))


def by_id(rows: list[Row]) -> dict[str, Row]:
    return {row.id: row for row in rows}


def single_samples(run: Rows) -> Iterator[Sample]:
    """Samples with one reference: panel 1 -> panel 2, or an imported pair."""
    found = by_id(run.rows("filter-dino"))
    origins = by_id(run.rows("split")) | by_id(imported_pairs(run))
    for row in run.kept("filter-vlm"):
        if row.inputs["kind"] == "single":
            cosine = found[row.inputs["parent"]]
            origin = origins[cosine.inputs["parent"]]
            said = said_of(origin)
            yield Sample(
                said.prompt,
                (row.inputs["first"],),
                row.inputs["second"],
                said.subjects,
                result_of(row)["score"],
                row,
            )


def two_samples(run: Rows) -> Iterator[Sample]:
    """Samples with two references: panel 1 and the redrawn second subject -> panel 2."""
    cosines, drawn, boxes = (by_id(run.rows(name)) for name in ("filter-dino", "second-reference", "detect"))
    singles = {sample.row.id: sample for sample in single_samples(run)}
    for row in run.kept("filter-vlm"):
        if row.inputs["kind"] == "second":
            cosine = cosines[row.inputs["parent"]]
            picture = drawn[cosine.inputs["parent"]]
            box = boxes[picture.inputs["parent"]]
            first = singles[box.inputs["parent"]]
            yield Sample(
                first.prompt,
                (*first.references, row.inputs["second"]),
                first.target,
                first.subjects,
                min(first.score, result_of(row)["score"]),
                row,
            )
