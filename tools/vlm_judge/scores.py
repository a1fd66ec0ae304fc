"""Answers -> the content of judge.json: a row per picture, and each score's means with their spread.

Scores are averaged as in uno_jax.evaluate: over the pictures of a subject or group, then over these. If a
round has no answer, the others count.
"""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, stdev
from typing import Any

from ..common.manifest import Json, Row
from ..language_models.questions import UNUSABLE
from .cases import Case

SCORES = ("score", "score_worst", "instruction", "consistency", "consistency_worst")


def answer_scores(answer: Json) -> dict[str, float]:
    """The scores of one answer, each from 0 to 10. `score` is the geometric mean of instruction following and
    consistency. Consistency is the mean over subjects, or their minimum in scores that end in `_worst`.
    """
    instruction, subjects = answer["instruction"], answer["subjects"]
    mean, worst = fmean(subjects), min(subjects)
    return {
        "score": math.sqrt(instruction * mean),
        "score_worst": math.sqrt(instruction * worst),
        "instruction": instruction,
        "consistency": mean,
        "consistency_worst": worst,
    }


def picture_row(case: Case, answers: Sequence[Row]) -> Json:
    """The row of a picture. Scores are None if no round has an answer."""
    found = [answer_scores(answer.result) for answer in answers if answer.result is not None]
    return {
        "picture": case.picture.name,
        "prompt": case.prompt,
        "subjects": list(case.subjects),
        **{score: fmean(each[score] for each in found) if found else None for score in SCORES},
        "rounds": [answer.result or {"failed": answer.failed} for answer in answers],
    }


def group_means(values: Iterable[tuple[Sequence[str], float]]) -> dict[str, float]:
    """The mean value of each subject or group."""
    found: dict[str, list[float]] = {}
    for subjects, value in values:
        found.setdefault("+".join(subjects), []).append(value)
    return {group: fmean(values) for group, values in found.items()}


def score_summary(rows: Sequence[Json], score: str) -> dict[str, Any]:
    """A score's mean; the means of rounds and their standard deviation; the means of subjects or groups."""
    groups = group_means((row["subjects"], row[score]) for row in rows if row[score] is not None)
    rounds = []
    for answers in zip(*(row["rounds"] for row in rows), strict=True):
        found = group_means(
            (row["subjects"], answer_scores(answer)[score])
            for row, answer in zip(rows, answers, strict=True)
            if "failed" not in answer
        )
        rounds.append(fmean(found.values()) if found else None)
    means = [mean for mean in rounds if mean is not None]
    return {
        "mean": fmean(groups.values()),
        "spread": stdev(means) if len(means) > 1 else None,
        "rounds": rounds,
        "groups": groups,
    }


def summarize(settings: Json, cases: Sequence[Case], answers: Sequence[Sequence[Row]]) -> Json:
    """The content of judge.json; `scores` is empty if there was no answer. `malformed` counts rounds in which
    every attempt was malformed, `failed` those without an answer for other reasons.
    """
    rows = [picture_row(case, of_case) for case, of_case in zip(cases, answers, strict=True)]
    every = [row for of_case in answers for row in of_case]
    reasons = [row.failed or "" for row in every if row.result is None]
    malformed = sum(reason.startswith(UNUSABLE) for reason in reasons)
    answered = len(every) - len(reasons)
    return {
        "settings": settings,
        "pictures": len(cases),
        "answers": answered,
        "malformed": malformed,
        "failed": len(reasons) - malformed,
        "reasons": list(dict.fromkeys(reasons)),
        "scores": {score: score_summary(rows, score) for score in SCORES} if answered else {},
        "rows": rows,
    }
