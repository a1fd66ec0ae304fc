"""Rows of a list's pictures -> means by kind of entry, and over the kinds, as OmniContext is reported."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from uno_jax.evaluation.dreambench.scores import DRAWS, LEVEL


def summarise_kinds(rows: Sequence[dict[str, Any]], scores: Sequence[str]) -> dict[str, Any]:
    """Each score's mean over the kinds' means, its interval, and the kinds' means. Scores that no picture has
    are left out.
    """
    result: dict[str, Any] = {}
    for score in scores:
        if kinds := entry_means(rows, score):
            means = {kind: float(values.mean()) for kind, values in kinds.items()}
            result[score] = {
                "mean": float(np.mean(list(means.values()))),
                "interval": interval_of_kinds(list(kinds.values())),
                "categories": means,
            }
    return result


def entry_means(rows: Sequence[dict[str, Any]], score: str) -> dict[str, Float[np.ndarray, "n"]]:
    """A score's mean over the pictures of each entry, by kind."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row.get(score) is not None:
            entry = row["picture"].partition("_")[0]
            found.setdefault(row["category"], {}).setdefault(entry, []).append(float(row[score]))
    return {kind: np.array([np.mean(each) for each in own.values()]) for kind, own in found.items()}


def interval_of_kinds(kinds: Sequence[Float[np.ndarray, "_"]], seed: int = 0) -> tuple[float, float]:
    """Percentiles that hold LEVEL of the means over kinds, of DRAWS resamplings of the entries of each."""
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(len(values), size=(DRAWS, len(values)))].mean(1) for values in kinds]
    low, high = np.quantile(np.mean(means, 0), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
