"""Finished rounds -> one table: pairs kept by stage, and scores with the intervals of their means and
differences.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from uno_jax.ablation.grid import Score
from uno_jax.ablation.run import Found, found_in, interval_from
from uno_jax.coevolution.config import Coevolution
from uno_jax.coevolution.rounds import Round
from uno_jax.evaluation.dreambench.scores import bootstrap_interval
from uno_jax.support.atomic import atomic_write
from uno_jax.support.errors import RecipeError
from uno_jax.support.json_files import read_object

COPIED = "the same background"  # heading of filter-dino's reason
SINGLE_STAGES = ("generate", "split", "filter-dino", "filter-vlm")
TWO_STAGES = ("detect", "second-reference")
HEADS = {
    "start": "from",
    "generate": "diptychs",
    "split": "with a seam",
    "filter-dino": "filter-dino",
    "copied": "rejected: background",
    "filter-vlm": "filter-vlm",
    "second-reference": "second references",
    "single": "trained on, 1 reference",
    "two": "2 references",
}


class Result(NamedTuple):
    """A row: what is shown of the pairs by the names of HEADS, and the scores."""

    name: str
    pairs: dict[str, int | str]
    scores: dict[str, Found]


def round_result(config: Coevolution, done: Round) -> Result:
    """The row of a finished round.

    Raises RecipeError where an evaluation lacks a score.
    """
    counts: dict[str, int | str] = {"start": done.start.name}
    for stages, funnel in ((SINGLE_STAGES, done.pairs["single"]), (TWO_STAGES, done.pairs["two"])):
        counts |= {stage: funnel[stage]["kept"] for stage in stages if stage in funnel}
    counts["copied"] = done.pairs["single"]["filter-dino"]["left out"].get(COPIED, 0)
    return Result(done.model.name, {**counts, **done.trained}, read_scores(config.scores, done.folder))


def base_result(config: Coevolution, out: Path) -> Result:
    """The row of the base, drawing with references and without any LoRA."""
    return Result("base", {}, read_scores(config.scores, out / "base"))


def read_scores(scores: Sequence[Score], folder: Path) -> dict[str, Found]:
    """Scores by name, from a round's evaluations."""
    found = {}
    for score in scores:
        path = folder / f"evaluation_{score.evaluation}" / "scores.json"
        found[score.name] = found_in(read_object(path, {}, RecipeError), score, path)
    return found


def write_table(config: Coevolution, results: Sequence[Result], better: str, out: Path) -> None:
    """Writes table.json and table.md."""
    rows = [base_result(config, out), *results]
    record = {
        "rows": [row_record(row, before) for row, before in zip(rows, [None, *rows], strict=False)],
        "better": better,
        "verdicts": verdicts(config, rows),
    }
    texts = {
        "table.json": json.dumps(record, indent=1),
        "table.md": "\n".join([*table_lines(config, rows), "", *verdicts(config, rows)]),
    }
    for name, text in texts.items():
        with atomic_write(out / name) as partial:
            partial.write_text(text + "\n", encoding="utf-8")


def row_record(row: Result, before: Result | None) -> dict[str, Any]:
    """A row as JSON values; differences are from the row before."""
    scores = {}
    for name, found in row.scores.items():
        scores[name] = {"value": found.value, "interval": interval_of(found)}
        if before is not None:
            base = before.scores[name]
            scores[name] |= {
                "difference": found.value - base.value,
                "difference_interval": interval_from(found, base),
            }
    return {"name": row.name, "pairs": row.pairs, "scores": scores}


def interval_of(found: Found) -> tuple[float, float] | None:
    """The bootstrap interval of a score's mean; None where rows do not have its parts."""
    return bootstrap_interval(list(found.rows.values())) if found.rows else None


def table_cells(config: Coevolution, row: Result) -> list[str]:
    """A row's cells, in the order of HEADS and of the scores."""
    counts = [str(row.pairs.get(name, "")) for name in HEADS]
    return counts + [score_cell(score, row.scores[score.name]) for score in config.scores]


def score_cell(score: Score, found: Found) -> str:
    """ "46.7 % (38.3 to 55.8)"."""
    within = interval_of(found)
    return in_units(score, found.value) + (
        f" ({in_units(score, within[0], bare=True)} to {in_units(score, within[1], bare=True)})"
        if within
        else ""
    )


def in_units(score: Score, value: float, signed: bool = False, bare: bool = False) -> str:
    scale, digits = (100, 1) if score.percent else (1, 3)
    unit = " %" if score.percent and not bare else ""
    return f"{scale * value:{'+' if signed else ''}.{digits}f}{unit}"


def table_lines(config: Coevolution, rows: Sequence[Result]) -> list[str]:
    """Lines of Markdown."""
    heads = ["", *HEADS.values(), *(score.name for score in config.scores)]
    cells = [[row.name, *table_cells(config, row)] for row in rows]
    return [f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *cells)]


def difference(score: Score, now: Found, then: Found) -> tuple[str, str]:
    """ "+7.5 (-2.5 to +17.5)" and whether that is beyond chance: whether the interval leaves out 0."""
    said = in_units(score, now.value - then.value, signed=True, bare=True)
    within = interval_from(now, then)
    if within is None:
        return said, ""
    low, high = (in_units(score, end, signed=True, bare=True) for end in within)
    chance = within[0] <= 0 <= within[1]
    return f"{said} ({low} to {high})", "no more than chance" if chance else "beyond chance"


def verdicts(config: Coevolution, rows: Sequence[Result]) -> list[str]:
    """A sentence for each row after the first and each score: its difference from the row before."""
    return [
        f"{row.name} against {before.name}, {score.name}: "
        + ": ".join(filter(None, difference(score, row.scores[score.name], before.scores[score.name])))
        for row, before in zip(rows[1:], rows, strict=False)
        for score in config.scores
    ]
