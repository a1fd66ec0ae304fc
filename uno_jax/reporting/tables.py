"""Runs -> tables of text: scores beside the paper's, by kind of prompt and by subject, settings, training."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from uno_jax.evaluation.toybox.page import HEADINGS
from uno_jax.reporting.evaluations import Evaluation, Score
from uno_jax.reporting.runs import Run, Training

# The UNO paper's figures by the number of subjects (docs/evaluation.md).
PAPER = {
    1: {
        "paper, final": {"dino": 0.760, "clip_i": 0.835, "clip_t": 0.304},
        "paper, stage I": {"dino": 0.730, "clip_i": 0.821, "clip_t": 0.309},
    },
    2: {"paper, final": {"dino": 0.542, "clip_i": 0.733, "clip_t": 0.322}},
}
PROMPTS = 750  # in DreamBench, of one subject or of two
LABELS = {
    "dino": "DINO",
    "clip_i": "CLIP-I",
    "clip_t": "CLIP-T",
    "dino_worst": "DINO, worst",
    "clip_i_worst": "CLIP-I, worst",
    "copied_border": "border copied",
    "copied_layout": "layout copied",
    "cosine": "cosine",
    "top1": "subject recognised",
    "scene_accuracy": "scene recognised",
    "scene_right": "scene recognised",
    "copied_scene": "reference's scene",
    "scene_copied": "reference's scene",
    "swaps": "subjects exchanged",
    "exchanged": "subjects exchanged",
    "placed": "on the side asked for",
    "count": "pictures",
    "sided": "with left and right",
    "judge_score": "judge: overall",
    "judge_score_worst": "judge: overall, worst",
    "judge_instruction": "judge: instruction",
    "judge_following": "judge: prompt following",
    "judge_consistency": "judge: subject consistency",
    "judge_consistency_worst": "judge: subject consistency, worst",
}
SHARES = ("copied_border", "copied_layout", "top1", "scene_accuracy", "copied_scene", "swaps", "placed")
COUNTS = ("count", "sided")
LIST_NOTE = (
    "DINO and CLIP-I are cosines with the references, which a copy of them has best. The judge's words, and "
    "the model that judges, are others than of published scores: they cannot be compared."
)
LAST = 0.1  # share of the log over which a run's last values are averaged


class Table(NamedTuple):
    """`rows` have a label and a cell for each column; lines of a cell are separated by newlines. A `folded`
    table is shown on a click.
    """

    title: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]
    note: str = ""
    folded: bool = False


def shown(name: str, value: float | None) -> str:
    """A score as text, in the form that its name asks for; empty for None."""
    if value is None:
        return ""
    if name in COUNTS:
        return f"{value:.0f}"
    return f"{100 * value:.1f} %" if name in SHARES else f"{value:.3f}"


def paper_figures(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """The paper's scores for as many subjects, by the model that the paper names; none for a list."""
    return PAPER.get(evaluation.subjects or 0, {}) if evaluation.suite != "list" else {}


def resolution(evaluation: Evaluation) -> str:
    """The size of an evaluation's pictures, which scores depend on."""
    settings = evaluation.settings
    sides = [str(settings[side]) for side in ("width", "height") if side in settings]
    return str(settings.get("resolution") or "x".join(sides) or "resolution unknown")


def evaluation_tables(runs: Sequence[Run]) -> list[Table]:
    evaluations = {run.name: run.evaluation for run in runs if run.evaluation}
    if not evaluations:
        return []
    suite = next(iter(evaluations.values())).suite
    make = {"toybox": toybox_tables, "list": list_tables}.get(suite, dreambench_tables)
    return [*make(evaluations), settings_table(evaluations)]


def dreambench_tables(evaluations: dict[str, Evaluation]) -> list[Table]:
    scores = {name: each.scores[""] for name, each in evaluations.items()}
    names = list(dict.fromkeys(name for each in scores.values() for name in each))
    paper = paper_figures(next(iter(evaluations.values())))
    final = paper.get("paper, final", {})
    rows = [
        (
            LABELS.get(name, name),
            [score_cell(name, each.get(name), final.get(name)) for each in scores.values()]
            + [shown(name, figures.get(name)) for figures in paper.values()],
        )
        for name in names
    ]
    heads = [f"{name}\n{resolution(each)}" for name, each in evaluations.items()]
    heads += [f"{name}\nresolution not stated" for name in paper]
    table = Table("Scores", heads, rows, " ".join(dreambench_notes(evaluations)))
    parts = [
        part_table(evaluations, "categories", "By kind of prompt"),
        part_table(evaluations, "groups", "By subject", folded=True),
    ]
    return [table, *parts]


def score_cell(name: str, score: Score | None, paper: float | None) -> str:
    if score is None:
        return ""
    lines = [shown(name, score.mean)]
    if paper is not None:
        lines[0] += f" ({score.mean - paper:+.3f})"
    if score.interval:
        lines.append(" to ".join(shown(name, end) for end in score.interval))
    return "\n".join(lines)


def dreambench_notes(evaluations: dict[str, Evaluation]) -> list[str]:
    notes = ["Below each mean is the interval that holds 95 % of the means of resampled subjects."]
    if any(paper_figures(each) for each in evaluations.values()):
        notes.append("In brackets: the difference to the paper's final model.")
        for name, each in evaluations.items():
            if each.settings.get("lists"):
                notes.append(f"{name} drew a list of its own: the paper's figures are of DreamBench's.")
            elif each.settings.get("prompts", PROMPTS) != PROMPTS:
                notes.append(f"{name} has {each.settings['prompts']} prompts, the paper {PROMPTS}.")
    if len({json.dumps(each.settings.get("encoders"), sort_keys=True) for each in evaluations.values()}) > 1:
        notes.append("The runs were scored by different encoders: their scores cannot be compared.")
    return notes


def part_table(evaluations: dict[str, Evaluation], part: str, title: str, folded: bool = False) -> Table:
    """Means of parts: a row for each part, a column for each of the paper's scores in each run."""
    scores = {name: each.scores[""] for name, each in evaluations.items()}
    columns = [(run, name) for name in PAPER[1]["paper, final"] for run in scores if name in scores[run]]
    found = {column: scores[column[0]][column[1]].parts.get(part, {}) for column in columns}
    rows = [
        (each, [shown(name, found[run, name].get(each)) for run, name in columns])
        for each in dict.fromkeys(each for means in found.values() for each in means)
    ]
    heads = [score_head(evaluations, run, name) for run, name in columns]
    return Table(title, heads, rows, folded=folded)


def score_head(evaluations: dict[str, Evaluation], run: str, name: str) -> str:
    """The head of a score's column: with the resolution, and with the run where there are several."""
    of_run = f"\n{run}" if len(evaluations) > 1 else ""
    return f"{LABELS[name]}{of_run}\n{resolution(evaluations[run])}"


def list_tables(evaluations: dict[str, Evaluation]) -> list[Table]:
    """A row for each kind of entry and one for their mean; a column for each score of each run."""
    columns = {
        (run, name): score
        for run, each in evaluations.items()
        for name, score in each.scores[""].items()
        if not name.endswith("_worst")
    }
    counts = {
        run: Counter(entry.category for entry in each.entries.values()) for run, each in evaluations.items()
    }
    kinds = dict.fromkeys(kind for each in counts.values() for kind in each)
    rows = [
        (
            kind,
            [str(each[kind]) for each in counts.values()]
            + [shown(name, score.parts["categories"].get(kind)) for (_, name), score in columns.items()],
        )
        for kind in kinds
    ]
    means = [score_cell(name, score, None) for (_, name), score in columns.items()]
    rows.append(("mean of kinds", [str(each.total()) for each in counts.values()] + means))
    heads = [score_head(evaluations, run, "count") for run in evaluations]
    heads += [score_head(evaluations, run, name) for run, name in columns]
    return [Table("Scores by kind of entry", heads, rows, LIST_NOTE)]


def toybox_tables(evaluations: dict[str, Evaluation]) -> list[Table]:
    """One table for each kind of prompts that a run has; a column for each source of each run."""
    tables = []
    for kind, title in HEADINGS.items():
        columns = {
            source.removeprefix(f"{kind}, ") + (f"\n{name}" if len(evaluations) > 1 else ""): scores
            for name, each in evaluations.items()
            for source, scores in each.scores.items()
            if source.startswith(f"{kind}, ")
        }
        if not columns:
            continue
        names = dict.fromkeys(name for scores in columns.values() for name in scores)
        rows = [
            (
                LABELS.get(name, name),
                [shown(name, scores[name].mean if name in scores else None) for scores in columns.values()],
            )
            for name in names
        ]
        tables.append(Table(title, list(columns), rows))
    tables[0] = tables[0]._replace(
        note="By EfficientNet-Lite0's features: not the paper's scores. Real composites are the most that a "
        "model can reach, the base without references the least."
    )
    return tables


def settings_table(evaluations: dict[str, Evaluation]) -> Table:
    """Every setting, those that differ first."""
    names = dict.fromkeys(name for each in evaluations.values() for name in each.settings)
    rows = [(name, [setting(each.settings.get(name)) for each in evaluations.values()]) for name in names]
    rows.sort(key=lambda row: len(set(row[1])) == 1)
    differ = ", ".join(label for label, cells in rows if len(set(cells)) > 1)
    note = f"The runs differ in: {differ or 'nothing that is recorded'}." if len(evaluations) > 1 else ""
    return Table("Settings", list(evaluations), rows, note, folded=True)


def setting(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name} {each}" for name, each in value.items())
    return "" if value is None else str(value)


def training_tables(runs: Sequence[Run]) -> list[Table]:
    trainings = {run.name: run.training for run in runs if run.training}
    if not trainings:
        return []
    rows = [("last step", [str(each.last_step) for each in trainings.values()])]
    for metric, label in (
        ("loss", "loss"),
        ("grad_norm", "gradient norm"),
        ("images_per_second", "images/s"),
        ("mfu", "MFU"),
    ):
        rows.append((label, [last_mean(each, metric) for each in trainings.values()]))
    for metric, label in (("skipped", "skipped steps"), ("bad_records", "records left out")):
        rows.append((label, [last_value(each, metric) for each in trainings.values()]))
    notes = [f"Means are over the last {LAST:.0%} of the log.", *(each.note for each in trainings.values())]
    return [
        Table(
            "Last values",
            list(trainings),
            [row for row in rows if any(row[1])],
            " ".join(filter(None, notes)),
        )
    ]


def last_mean(training: Training, metric: str) -> str:
    if metric not in training.metrics:
        return ""
    values = training.metrics[metric].values
    some = values[-max(1, round(LAST * len(values))) :]
    return f"{np.nanmean(some):.4g}" if np.isfinite(some).any() else "not finite"


def last_value(training: Training, metric: str) -> str:
    return f"{training.metrics[metric].values[-1]:.0f}" if metric in training.metrics else ""
