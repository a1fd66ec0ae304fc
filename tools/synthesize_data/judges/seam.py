"""A diptych's pixels -> where its panels meet, and how likely it is that they do. Numpy alone, no model.

The panels of a diptych rarely meet in the middle (725 + 811 pixels of 1536 are common). At a seam the step
in colour is larger than the steps around it, in the same column of all rows; edges of objects are so in some
rows only. Each row therefore compares its own steps, and all rows have the same weight.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SMALLEST = 32  # width and height in pixels below which no seam can be found
ROWS = 256  # number of rows that a picture is averaged down to
BANDS = 12  # number of bands that the height is divided into
WEAKEST = 4  # number of bands that decide whether an edge spans the height
OFFSETS = 12  # neighbours on each side that a step is compared with
NOISE = 6.0  # difference in step, summed over three channels of 255, that counts as noise
# Weights of the mean score, the weakest bands' and a constant; fitted by `python -m benchmarks.seam --fit`.
COEFFICIENTS = (7.3, 8.72, -9.96)
GUTTER_SCORE = 0.85  # lowest score of a line's second edge, in the weakest bands too
GUTTER_NOISE = 8.0  # largest mean deviation from the line's colour, per channel


class Seam(NamedTuple):
    """`position` is the first column of the second panel; columns from gutter[0] to gutter[1] (not included)
    are a line between the panels; if they are equal, there is none.
    """

    position: int
    probability: float
    gutter: tuple[int, int]


def find_seam(pixels: NDArray[np.uint8], search: tuple[float, float] = (0.35, 0.65)) -> Seam:
    """Finds the likeliest vertical seam of a picture (height, width, 3) within shares `search` of its width.

    For panels one above the other, transpose the picture.

    Raises ValueError for fewer than SMALLEST pixels.
    """
    if min(pixels.shape[:2]) < SMALLEST:
        raise ValueError(f"no seam can be found in {pixels.shape[1]}x{pixels.shape[0]} pixels")
    rows = averaged_rows(pixels)
    width = rows.shape[1]
    columns = np.arange(int(search[0] * width), int(np.ceil(search[1] * width)))
    scores = row_scores(rows, columns)
    mean, weak = scores.mean(0), weakest_bands(scores)
    best = int((mean + weak).argmax())
    probability = 1 / (1 + np.exp(-np.dot(COEFFICIENTS, (mean[best], weak[best], 1))))
    start, stop = find_gutter(rows, columns, np.minimum(mean, weak), best)
    return Seam((start + stop) // 2, float(probability), (start, stop))


def averaged_rows(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Averages rows in groups, to between ROWS and 2 * ROWS rows: faster, and with less noise."""
    group = max(1, len(pixels) // ROWS)
    whole = len(pixels) // group * group
    return pixels[:whole].reshape(-1, group, *pixels.shape[1:]).mean(1, dtype=np.float32)


def row_scores(rows: NDArray[np.float32], columns: NDArray[np.intp]) -> NDArray[np.float32]:
    """(rows, columns) from -1 to 1: by how much the step before a column exceeds its neighbours' steps.

    A step is the difference of the means of `side` pixels before and after; 1 means that it is far larger
    than every other within `reach`, 0 that it is one of many, or that there is no edge.
    """
    width = rows.shape[1]
    side, reach = max(1, round(width / 400)), max(24, width // 24)
    first, last = max(side, columns[0] - reach), min(width - side, columns[-1] + 1 + reach)
    sums = np.concatenate([np.zeros_like(rows[:, :1]), rows.cumsum(1)], axis=1)
    before, here, after = (sums[:, first + shift : last + shift] for shift in (-side, 0, side))
    steps = np.abs(after - 2 * here + before).sum(2) / side
    places = columns - first
    own = steps[:, places]
    offsets = np.unique(np.linspace(2 * side + 1, reach - 1, OFFSETS).round().astype(int))
    scores = np.zeros_like(own)
    for offset in (*-offsets, *offsets):
        other = steps[:, np.clip(places + offset, 0, last - first - 1)]
        scores += np.clip((own - other) / (NOISE + 0.5 * other), -1, 1)
    return scores / (2 * len(offsets))


def weakest_bands(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each column's mean score in the WEAKEST of BANDS bands of the height: most edges end somewhere."""
    bands = np.stack([band.mean(0) for band in np.array_split(scores, BANDS)])
    return np.sort(bands, axis=0)[:WEAKEST].mean(0)


def find_gutter(
    rows: NDArray[np.float32], columns: NDArray[np.intp], scores: NDArray[np.float32], best: int
) -> tuple[int, int]:
    """Finds the strip of one colour between the best column and another edge through the whole height.

    Returns (best column, best column) if there is none.
    """
    widest = max(8, rows.shape[1] // 96)
    near = np.arange(max(0, best - widest), min(len(columns), best + widest + 1))
    for other in near[np.argsort(-scores[near])]:
        start, stop = columns[min(best, other)], columns[max(best, other)]
        if scores[other] < GUTTER_SCORE or stop - start < 2:
            continue
        colour = np.median(rows[:, start:stop], axis=(0, 1))
        plain = np.abs(rows - colour).mean((0, 2)) < GUTTER_NOISE
        if plain[start:stop].all():
            # Scores locate an edge to within a pixel or two.
            for _ in range(2):
                start, stop = start - plain[start - 1], stop + plain[stop]
            return int(start), int(stop)
    return int(columns[best]), int(columns[best])
