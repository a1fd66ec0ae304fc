"""A run -> RUN/report.html: the funnel, score histograms, kept and rejected pairs with their reasons.

A person can mark pairs on the page and save the marks; `uno-synthesize marks --source FILE` applies them.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import jinja2

from uno_jax.support.words import counted

from ...common.errors import ToolError
from ...common.manifest import Row
from ..pipeline.lineage import Said, said_of_pairs
from ..pipeline.run import Run, read_marks
from .datasheet import BINS, PAPER_SCORES, histogram, stage_counts, stage_results, write_text

SHOWN = 60  # pairs per stage and verdict
FILTERS = ("filter-vlm", "filter-dino")


class Card(NamedTuple):
    """One pair on the page."""

    id: str
    kind: str
    first: str
    second: str
    said: Said
    verdict: str
    parts: str


class Bar(NamedTuple):
    """A bin of a histogram: pairs, their share, and the share in UNO's paper where it is published."""

    pairs: int
    share: float
    paper: float | None


class Gallery(NamedTuple):
    title: str
    total: int
    cards: list[Card]


def write_report(run: Run) -> Path:
    """Writes the page, which links to the pictures, and returns its path."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("report.html.j2").render(
        run=str(run.folder),
        funnel={name: stage_counts(run, name) for name in run.stages if run.stored(name)},
        charts=charts(run),
        galleries=[gallery for name in FILTERS for gallery in galleries(run, name)],
        marks=run.marks,
    )
    write_text(run.folder / "report.html", page)
    return run.folder / "report.html"


def charts(run: Run) -> dict[str, dict[str, Bar]]:
    """Title -> bin -> its bar."""
    cosines = [row.result["cosine"] for row in run.rows("filter-dino") if row.result]
    seams = [row.result["probability"] for row in run.rows("split") if row.result]
    scores = stage_results(run, "filter-vlm", "score")
    found = {
        "probability of a seam": histogram(seams, [i / 10 for i in range(11)]),
        "cosine of the two pictures": histogram(cosines, BINS["cosine"]),
        "score of the parts, 0 to 4": histogram(scores, BINS["score"]),
    }
    paper = {"score of the parts, 0 to 4": PAPER_SCORES}
    return {
        title: {
            name: Bar(times, times / sum(bins.values()), paper.get(title, {}).get(name))
            for name, times in bins.items()
        }
        for title, bins in found.items()
        if any(bins.values())
    }


def galleries(run: Run, stage: str) -> list[Gallery]:
    """A selection of a filter's kept pairs, then of the rejected, spread evenly from best to worst."""
    rows, said = run.rows(stage), said_of_pairs(run)
    split: dict[str, list[Row]] = {"kept": [], "rejected": []}
    for row in rows:
        split["rejected" if run.verdict(stage, row) else "kept"].append(row)
    return [
        Gallery(
            f"{stage}: {title}",
            len(found),
            [card(run, stage, row, said[row.inputs["parent"]]) for row in pick_evenly(found)],
        )
        for title, found in split.items()
        if found
    ]


def pick_evenly(rows: Sequence[Row]) -> list[Row]:
    ordered = sorted(rows, key=lambda row: (-score(row), row.id))
    step = max(1.0, len(ordered) / SHOWN)
    return [ordered[int(index * step)] for index in range(min(SHOWN, len(ordered)))]


def score(row: Row) -> float:
    return max((row.result or {}).get(name, -1.0) for name in ("score", "cosine"))


def card(run: Run, stage: str, row: Row, said: Said) -> Card:
    parts = (row.result or {}).get("parts", ())
    compared = "; ".join(f"{part['part']}: {part['score']} ({part['difference']})" for part in parts)
    inputs = row.inputs
    verdict = run.verdict(stage, row) or f"kept, {score(row):.2f}"
    first, second = link(inputs["first"]), link(inputs["second"])
    return Card(row.id, inputs["kind"], first, second, said, verdict, compared)


def link(path: str) -> str:
    """A picture's address on the page: http, https or a file, and never a script of a foreign manifest's."""
    return path if re.match(r"https?://", path) else quote(path, safe="/", errors="surrogatepass")


def take_marks(run: Run, source: Path | None) -> None:
    """Adds marks that a person saved from the page to the run.

    Raises ToolError.
    """
    if source is None or not source.is_file():
        raise ToolError(f"no marks at {source}: pass --source with the file saved from report.html")
    given = read_marks(source)
    known = {row.id for name in FILTERS for row in run.stored(name).values()}
    if strange := sorted(set(given) - known):
        raise ToolError(f"{source} marks rows that are not in {run.folder}, such as {strange[0]}")
    marks = {id: mark for id, mark in (run.marks | given).items() if mark}
    write_text(run.folder / "marks.json", json.dumps(marks, indent=1) + "\n")
    print(f"{counted(len(marks), 'mark')}; applied from the next command on")
