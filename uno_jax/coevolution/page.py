"""Finished rounds -> index.html, a page of uno_jax.reporting: the table, some pairs of each round, its
evaluation and trainings.
"""

from collections.abc import Sequence
from pathlib import Path

from uno_jax.ablation.grid import Score
from uno_jax.coevolution.config import Coevolution
from uno_jax.coevolution.rounds import Round
from uno_jax.coevolution.table import HEADS, Result, base_result, difference, score_cell
from uno_jax.reporting.plots import Plot
from uno_jax.reporting.runs import read_runs
from uno_jax.reporting.tables import Table
from uno_jax.reporting.thumbnails import Thumbnails
from uno_jax.reporting.write import write_runs
from uno_jax.support.atomic import atomic_write
from uno_jax.support.contact_sheet import Row, contact_sheet
from uno_jax.support.errors import RecipeError
from uno_jax.support.images import read_image
from uno_jax.support.json_files import read_json

SHOWN = 8  # pairs of a round
SHEET_SIDE = 1024  # pixels
THUMBNAIL = 192


def write_page(config: Coevolution, rounds: Sequence[Round], results: Sequence[Result], out: Path) -> None:
    """Writes OUT/index.html and a sheet of pairs in each round's folder."""
    first = next(iter(config.evaluations))
    runs = [out / "base" / f"evaluation_{first}"]
    for each in rounds:
        stages = [each.folder / stage for stage in ("stage1", "stage2")]
        runs += [each.folder / f"evaluation_{first}", *(stage for stage in stages if stage.is_dir())]
    thumbnails = Thumbnails(THUMBNAIL)
    sheets = []
    for each in rounds:
        picture = thumbnails.add(write_pairs(each), SHEET_SIDE)
        if picture is not None:
            sheets.append(Plot(f"Pairs of round {each.number}", thumbnails.uris[picture]))
    tables = coevolution_tables(config, [base_result(config, out), *results])
    write_runs(out / "index.html", read_runs(runs), thumbnails, [("Co-evolution", tables, sheets)])


def coevolution_tables(config: Coevolution, rows: Sequence[Result]) -> list[Table]:
    """What came of the pairs of each round, and the scores."""
    pairs = [(row.name, [str(row.pairs.get(name, "")) for name in HEADS]) for row in rows if row.pairs]
    scores = [
        (row.name, [score_lines(score, row, before) for score in config.scores])
        for row, before in zip(rows, [None, *rows], strict=False)
    ]
    note = (
        "In brackets: the interval that holds 95 % of the means of resampled prompts. Below: the difference "
        "from the row before with its interval, and whether that leaves out 0."
    )
    return [
        Table("Pairs of each round", list(HEADS.values()), pairs, "Rows that each stage kept."),
        Table("Scores", [score.name for score in config.scores], scores, note),
    ]


def score_lines(score: Score, row: Result, before: Result | None) -> str:
    """The lines of a score's cell."""
    found = row.scores[score.name]
    lines = [score_cell(score, found)]
    if before is not None:
        lines += difference(score, found, before.scores[score.name])
    return "\n".join(filter(None, lines))


def write_pairs(done: Round) -> Path:
    """Writes pairs.png beside a round's steps: the first pairs of each of its lists."""
    rows = []
    for kind in ("two", "single"):
        path = done.folder / "pairs" / "export" / kind / "train.json"
        for entry in read_json(path, RecipeError)[:SHOWN]:
            shown = [
                read_image(path.parent / name) for name in (*entry["image_paths"], entry["image_tgt_path"])
            ]
            rows.append(Row([*shown[:-1], *[None] * (3 - len(shown)), shown[-1]], entry["prompt"]))
    sheet = done.folder / "pairs.png"
    with atomic_write(sheet) as partial:
        contact_sheet(("reference", "second reference", "target"), rows[:SHOWN], abreast=2).save(
            partial, "PNG"
        )
    return sheet
