"""Answers -> the content of judge.json: a row per picture, and each score's means with their spread.

Scores are averaged as in uno_jax.evaluate: over the pictures of a subject or group, or of a list's kind, then
over these. If a round has no answer, the others count.
"""

from collections.abc import Iterable, Sequence
from statistics import fmean, stdev
from typing import Any

from ..common.manifest import Json, Row
from ..language_models.questions import UNUSABLE
from .cases import Case
from .forms import Form


def round_answers(case: Case, rows: Sequence[Row], form: Form) -> list[Json]:
    """Each round's answer: that to its question, or for several each by its aspect; {"failed": reason} where
    any is missing.
    """
    aspects = form.aspects(case)
    return [
        round_answer(aspects, rows[start : start + len(aspects)])
        for start in range(0, len(rows), len(aspects))
    ]


def round_answer(aspects: Sequence[str], rows: Sequence[Row]) -> Json:
    answers = [row.result for row in rows if row.result is not None]
    if len(answers) < len(rows):
        return {"failed": next(row.failed for row in rows if row.result is None)}
    return answers[0] if len(answers) == 1 else dict(zip(aspects, answers, strict=True))


def answer_scores(answer: Json, form: Form) -> dict[str, float] | None:
    """The scores of a round; None where it failed."""
    if "failed" in answer:
        return None
    return form.values([answer] if "reasons" in answer else list(answer.values()))


def picture_row(case: Case, rows: Sequence[Row], form: Form) -> Json:
    """The row of a picture. Scores are None if no round has an answer."""
    rounds = round_answers(case, rows, form)
    found = [scores for answer in rounds if (scores := answer_scores(answer, form))]
    return {
        "picture": case.picture.name,
        "prompt": case.prompt,
        "subjects": list(case.subjects),
        **({"category": case.category} if case.category else {}),
        **{score: fmean(each[score] for each in found) if found else None for score in form.scores},
        "rounds": rounds,
    }


def group_of(row: Json) -> str:
    """What a row's scores are averaged with: its kind in a list, otherwise its subjects."""
    return row.get("category") or "+".join(row["subjects"])


def group_means(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The mean value of each group."""
    found: dict[str, list[float]] = {}
    for group, value in values:
        found.setdefault(group, []).append(value)
    return {group: fmean(each) for group, each in found.items()}


def score_summary(rows: Sequence[Json], score: str, form: Form) -> dict[str, Any]:
    """A score's mean; the means of rounds and their standard deviation; the means of groups."""
    groups = group_means((group_of(row), row[score]) for row in rows if row[score] is not None)
    rounds = []
    for answers in zip(*(row["rounds"] for row in rows), strict=True):
        found = group_means(
            (group_of(row), scores[score])
            for row, answer in zip(rows, answers, strict=True)
            if (scores := answer_scores(answer, form))
        )
        rounds.append(fmean(found.values()) if found else None)
    means = [mean for mean in rounds if mean is not None]
    return {
        "mean": fmean(groups.values()),
        "spread": stdev(means) if len(means) > 1 else None,
        "rounds": rounds,
        "groups": groups,
    }


def summarize(settings: Json, cases: Sequence[Case], answers: Sequence[Sequence[Row]], form: Form) -> Json:
    """The content of judge.json; `scores` is empty if no round was answered. `malformed` counts questions to
    which every attempt was malformed, `failed` those without an answer for other reasons.
    """
    rows = [picture_row(case, of_case, form) for case, of_case in zip(cases, answers, strict=True)]
    every = [row for of_case in answers for row in of_case]
    reasons = [row.failed or "" for row in every if row.result is None]
    malformed = sum(reason.startswith(UNUSABLE) for reason in reasons)
    judged = any(row["score"] is not None for row in rows)
    return {
        "settings": settings,
        "pictures": len(cases),
        "answers": len(every) - len(reasons),
        "malformed": malformed,
        "failed": len(reasons) - malformed,
        "reasons": list(dict.fromkeys(reasons)),
        "scores": {score: score_summary(rows, score, form) for score in form.scores} if judged else {},
        "rows": rows,
    }


def kind_lines(found: Json) -> list[str]:
    """A table of the scores of each kind and their mean over kinds."""
    scores = found["scores"]
    kinds = dict.fromkeys(kind for score in scores.values() for kind in score["groups"])
    width = max(map(len, (*kinds, "mean")))
    rows = [(kind, [score["groups"][kind] for score in scores.values()]) for kind in kinds]
    rows.append(("mean", [score["mean"] for score in scores.values()]))
    head = "  ".join([" " * width, *(f"{name:>11}" for name in scores)])
    return [
        head,
        *("  ".join([f"{kind:<{width}}", *(f"{each:11.2f}" for each in own)]) for kind, own in rows),
    ]
