"""Cases, pictures and scores -> the files of an evaluation: the pictures, index.html, sheet.png, scores.json.

DIR/pictures holds KIND_{case}_{ref1|ref2|…|model|without_reference|real}.png.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from PIL import Image

from uno_jax.evaluation.toybox.cases import Kind
from uno_jax.evaluation.toybox.scorer import NAME, Pictures
from uno_jax.evaluation.toybox.scores import Verdicts
from uno_jax.support.atomic import atomic_write
from uno_jax.support.contact_sheet import Row, contact_sheet
from uno_jax.toybox import Sample

TITLES = {"model": "model", "without_reference": "base, no reference", "real": "real composite"}  # by source
HEADINGS: dict[Kind, str] = {
    "single": "One subject",
    "two": "Two subjects",
    "three": "Three subjects",
    "four": "Four subjects",
    "placed": "One subject on the left or on the right",
}
REFERENCES = ("reference", "second reference", "third reference", "fourth reference")
ON_SHEET = 6  # cases of each kind
PERCENT = ("top1", "scene_accuracy", "copied_scene", "swaps", "placed")


class Drawn(NamedTuple):
    """One kind of cases: what each source made of them, and the verdicts on it."""

    cases: Sequence[Sample]
    pictures: dict[str, Pictures]
    verdicts: dict[str, Verdicts]


def write_pictures(folder: Path, kind: str, drawn: Drawn) -> None:
    """Writes every picture that the page shows."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for index, case in enumerate(drawn.cases):
        shown = {source: pictures[index] for source, pictures in drawn.pictures.items()}
        shown |= {f"ref{number}": picture for number, picture in enumerate(case.references, 1)}
        for name, picture in shown.items():
            Image.fromarray(picture).save(folder / picture_name(kind, index, name), compress_level=3)


def picture_name(kind: str, index: int, name: str) -> str:
    """A picture's path in the folder of an evaluation."""
    return f"pictures/{kind}_{index:03d}_{name}.png"


def titles_of(drawn: dict[Kind, Drawn]) -> dict[str, str]:
    """The titles of the sources that were drawn."""
    return {source: TITLES[source] for each in drawn.values() for source in each.pictures}


def write_page(folder: Path, record: dict[str, Any], drawn: dict[Kind, Drawn]) -> None:
    """Writes index.html with the scores and every case, from page.html.j2."""
    loader = jinja2.PackageLoader("uno_jax.evaluation.toybox", "")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("page.html.j2").render(
        name=NAME,
        record=record,
        scores=record[NAME],
        sources=titles_of(drawn),
        percent=PERCENT,
        headings=HEADINGS,
        drawn=drawn,
        picture_name=picture_name,
    )
    with atomic_write(folder / "index.html") as partial:
        partial.write_text(page, encoding="utf-8")


def write_sheet(folder: Path, drawn: dict[Kind, Drawn]) -> None:
    """Writes sheet.png with the first cases of each kind."""
    most = max(len(case.references) for each in drawn.values() for case in each.cases)
    titles = titles_of(drawn)
    columns = (*REFERENCES[:most], *titles.values())
    rows = []
    for each in drawn.values():
        for index, case in enumerate(each.cases[:ON_SHEET]):
            references = [Image.fromarray(picture) for picture in case.references]
            made = [Image.fromarray(np.asarray(each.pictures[source][index])) for source in titles]
            rows.append(Row([*references, *[None] * (most - len(references)), *made], case.prompt))
    with atomic_write(folder / "sheet.png") as partial:
        contact_sheet(columns, rows, abreast=2).save(partial, format="png")


def case_rows(drawn: dict[Kind, Drawn]) -> list[dict[str, Any]]:
    """A row for each case: its prompt and subjects, and each source's verdicts by their names."""
    return [
        {"kind": kind, "index": index, "prompt": case.prompt, "subjects": list(case.subjects)}
        | {source: _plain(verdicts, index) for source, verdicts in each.verdicts.items()}
        for kind, each in drawn.items()
        for index, case in enumerate(each.cases)
    ]


def _plain(verdicts: Verdicts, index: int) -> dict[str, Any]:
    """One picture's verdicts as JSON values, without those that its kind does not have."""
    return {
        name: values[index].item() if isinstance(values, np.ndarray) else values[index]
        for name, values in verdicts._asdict().items()
        if len(values)
    }


def write_scores(folder: Path, record: dict[str, Any]) -> None:
    """Writes scores.json, the last of an evaluation's files."""
    with atomic_write(folder / "scores.json") as partial:
        partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
