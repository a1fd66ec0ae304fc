"""Compares a subject's parts by features: a stand-in for the vision-language model of filter-vlm.

The small run has no such model. This one also measures pictures: EfficientNet-Lite0, which was trained
neither by this project nor on its data, describes cells of both pictures, and each cell of a part of the
first picture's subject is matched with its best cell in the second. A part is a quadrant of the subject's
box, not a named thing, and text on it is not read. It therefore notices another subject, other colours or
materials, and not a wrong letter. `python -m benchmarks.judge` measures how well it distinguishes subjects.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...common.manifest import Failed, Job, Json
from ...common.readable import read_and_work
from ..config import SynthConfig
from ..pipeline.image_files import load_image
from .features import EfficientNetLite0, normalize

SIDE = 320  # pixels that pictures are resized to: a map of 10 x 10 cells
SUBJECT = 0.12  # share of the cells that count as the subject
# Probability that a part is the same: 1 / (1 + exp(-(slope * cosine + constant))), with equal priors;
# `python -m benchmarks.judge --fit --count 100` fits them.
SLOPE, CONSTANT = 19.7, -7.0
HIGHEST = 4


class FeatureJudge:
    """Pairs of pictures -> parts with scores from 0 to 4, in the form of the vision-language model's."""

    def __init__(self, config: SynthConfig, folder: Path):
        self.folder = folder
        self.network = EfficientNetLite0(config.device)

    def __call__(self, jobs: Sequence[Job]) -> list[Json | Failed]:
        return read_and_work(jobs, self.read_pair, self.judge_pairs)

    def read_pair(self, job: Job) -> tuple[Image.Image, Image.Image]:
        first, second = (load_image(self.folder, job.inputs[name]) for name in ("first", "second"))
        return first, second

    def judge_pairs(self, jobs: list[Job], read: list[tuple[Image.Image, Image.Image]]) -> list[Json]:
        maps = self.network.maps([picture for both in read for picture in both], SIDE)
        return [
            part_scores(job.inputs["subject"], part_cosines(maps[2 * n], maps[2 * n + 1]))
            for n, job in enumerate(jobs)
        ]


def part_scores(subject: str, cosines: dict[str, float]) -> Json:
    parts = [
        {"part": part, "difference": f"best cosine {cosine:.2f}", "score": part_score(cosine)}
        for part, cosine in cosines.items()
    ]
    return {"subject": subject, "parts": parts, "score": float(np.mean([part["score"] for part in parts]))}


def part_score(cosine: float) -> int:
    """The probability that a part is the same, in fifths: 4 from 80 %, 0 below 20 %."""
    odds = 1 / (1 + np.exp(-(SLOPE * cosine + CONSTANT)))
    return min(HIGHEST, int((HIGHEST + 1) * odds))


def part_cosines(first: NDArray[np.float32], second: NDArray[np.float32]) -> dict[str, float]:
    """For each part of the first map's subject, the mean over its cells of the best cosine in the second map.

    Maps are (rows, columns, features). All of the second map counts, because another subject may be the most
    salient there.
    """
    rows, columns = np.nonzero(subject_cells(first))
    best = (normalize(first[rows, columns]) @ normalize(second).reshape(-1, second.shape[-1]).T).max(1)
    upper = rows <= (rows.min() + rows.max()) / 2
    left = columns <= (columns.min() + columns.max()) / 2
    parts = {
        "upper left": upper & left,
        "upper right": upper & ~left,
        "lower left": ~upper & left,
        "lower right": ~upper & ~left,
    }
    return {name: float(best[cells].mean()) for name, cells in parts.items() if cells.any()}


def subject_cells(cells: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The share SUBJECT of a map's cells that is least similar to the border: to its mean, and to its most
    similar cell.
    """
    rim = np.ones(cells.shape[:2], bool)
    rim[1:-1, 1:-1] = False
    directions = normalize(cells)
    unlike = 2 - directions @ normalize(cells[rim].mean(0)) - (directions @ directions[rim].T).max(-1)
    count = max(1, int(SUBJECT * unlike.size))
    return unlike >= np.sort(unlike, axis=None)[-count]
