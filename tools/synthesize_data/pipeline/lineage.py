"""Kept pairs -> training samples, each with the rows it came from."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from ...common.manifest import Row
from .import_lists import pairs

if TYPE_CHECKING:
    from .run import Run


class Sample(NamedTuple):
    """A training sample; picture paths are the run's."""

    prompt: str
    references: tuple[str, ...]
    target: str
    subjects: tuple[str, ...]
    """All that the target shows."""
    score: float
    """Of likeness, from 0 to 4; the least of its references'."""
    row: Row
    """The last filter's, which a person's marks name."""


def by_id(rows: list[Row]) -> dict[str, Row]:
    return {row.id: row for row in rows}


def single_samples(run: "Run") -> Iterator[Sample]:
    """One reference each: panel 1 -> panel 2, or an imported pair."""
    found = by_id(run.rows("filter-dino"))
    origins = by_id(run.rows("split")) | by_id(pairs(run))
    for row in run.kept("filter-vlm"):
        if row.inputs["kind"] == "single":
            cosine = found[row.inputs["parent"]]
            origin = origins[cosine.inputs["parent"]]
            yield Sample(
                origin.inputs.get("caption_2") or origin.inputs["prompt"],
                (row.inputs["first"],),
                row.inputs["second"],
                tuple(filter(None, (origin.inputs["subject"], origin.inputs.get("other")))),
                row.result["score"],
                row,
            )


def two_samples(run: "Run") -> Iterator[Sample]:
    """Two references each: panel 1 and the redrawn second subject -> panel 2."""
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
                min(first.score, row.result["score"]),
                row,
            )
