"""Features of pictures, photos and prompts -> DreamBench's scores, as the UNO paper (section 4) defines them.

DINO and CLIP-I are the mean cosine of a picture with all photos of a subject, averaged over several subjects.
CLIP-T is the cosine with the prompt. They are averaged over a subject's (or group's) pictures, then over
subjects. Beyond the paper: the worst subject of a picture in place of their mean, and how often a picture is
closer to its reference than any other photo of the subject is, by its border and by its layout.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

DRAWS = 2000  # bootstrap samples
LEVEL = 0.95


def copied(
    picture: Float[np.ndarray, "*l d"],
    reference: Float[np.ndarray, "*l d"],
    others: Sequence[Float[np.ndarray, "*l d"]],
) -> bool:
    """Whether a picture is closer to the reference than every other photo of the subject is. Unit vectors are
    compared place by place, so that in whole maps of cells pose and framing count.
    """
    return alike(picture, reference) > max(alike(other, reference) for other in others)


def alike(a: Float[np.ndarray, "*l d"], b: Float[np.ndarray, "*l d"]) -> float:
    """The mean cosine of unit vectors place by place."""
    return float((a * b).sum(-1).mean())


def group_means(rows: Sequence[dict[str, Any]], score: str) -> dict[str, float]:
    """A score's mean over the pictures of each subject or group; rows without it are left out."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.get(score) is not None:
            found.setdefault("+".join(row["subjects"]), []).append(float(row[score]))
    return {group: float(np.mean(values)) for group, values in found.items()}


def bootstrap_interval(
    values: Sequence[float] | Float[np.ndarray, "n"], seed: int = 0
) -> tuple[float, float]:
    """Percentiles that hold LEVEL of the means of DRAWS resamplings of the values."""
    array = np.asarray(values, np.float64)
    picks = np.random.default_rng(seed).integers(len(array), size=(DRAWS, len(array)))
    low, high = np.quantile(array[picks].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def bootstrap_difference(
    found: Float[np.ndarray, "s n"] | Sequence[Sequence[float]],
    base: Float[np.ndarray, "r n"] | Sequence[Sequence[float]],
    seed: int = 0,
) -> tuple[float, float]:
    """Percentiles that hold LEVEL of the differences of two means over seeds and values, of DRAWS resamplings
    of the seeds of each and of the values that both have in common.
    """
    draw, sides = np.random.default_rng(seed), [np.asarray(side, np.float64) for side in (found, base)]
    values = draw.integers(sides[0].shape[1], size=(DRAWS, sides[0].shape[1]))
    means = []
    for side in sides:
        seeds = draw.integers(len(side), size=(DRAWS, len(side)))
        means.append(np.take_along_axis(side[seeds].mean(1), values, axis=1).mean(1))
    low, high = np.quantile(means[0] - means[1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def summarise_rows(rows: Sequence[dict[str, Any]], scores: Sequence[str]) -> dict[str, Any]:
    """Each score's final mean with its interval, the means of subjects or groups, and those by category."""
    result: dict[str, Any] = {}
    for score in scores:
        groups = group_means(rows, score)
        if not groups:
            continue
        values = list(groups.values())
        categories: dict[str, list[float]] = {row["category"]: [] for row in rows}
        for row in rows:
            if row.get(score) is not None:
                categories[row["category"]].append(float(row[score]))
        result[score] = {
            "mean": float(np.mean(values)),
            "interval": bootstrap_interval(values),
            "groups": groups,
            "categories": {name: float(np.mean(found)) for name, found in categories.items() if found},
        }
    return result
