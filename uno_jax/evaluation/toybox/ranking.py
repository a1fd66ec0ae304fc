"""Which subject a picture shows: features of the picture, or of its crops, against those of every candidate.

Arrays: n pictures, c crops of each, s subjects, k subjects that a picture should show, m candidates for each.
"""

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy.random import Generator

CANDIDATES = 20  # the right one and 19 others


class Grid(NamedTuple):
    """Squares in which a subject is looked for, column by column: their lefts, tops and side as fractions."""

    lefts: tuple[float, ...]
    tops: tuple[float, ...]
    side: float

    @property
    def columns(self) -> Int[np.ndarray, "c"]:
        """The column of every square, counted from the left."""
        return np.repeat(np.arange(len(self.lefts)), len(self.tops))


# By the number of subjects. The squares' centres are where that many stand, each with its column; of two,
# other sizes and whole halves found fewer (docs/evaluation.md).
CROPS = {
    2: Grid((0.04, 0.51), (0.1, 0.325, 0.55), 0.45),
    3: Grid((0.02, 0.33, 0.64), (0.32, 0.47, 0.62), 0.34),
    4: Grid((0.025, 0.265, 0.505, 0.745), (0.4, 0.55, 0.7), 0.23),
}


def draw_candidates(rng: Generator, shown: Int[np.ndarray, "n k"], total: int) -> Int[np.ndarray, "n k 20"]:
    """For each subject shown: itself first, then 19 random others of `total`, none of them in the picture."""
    rows = []
    for together in shown:
        others = np.setdiff1d(np.arange(total), together)
        rows.append([[own, *rng.choice(others, CANDIDATES - 1, replace=False)] for own in together])
    return np.array(rows)


def cut_crops(picture: UInt8[np.ndarray, "h w 3"], grid: Grid) -> list[UInt8[np.ndarray, "side side 3"]]:
    """The picture's crops at the squares of a grid."""
    size, side = len(picture), round(grid.side * len(picture))
    boxes = [(round(left * size), round(top * size)) for left in grid.lefts for top in grid.tops]
    return [picture[top : top + side, left : left + side] for left, top in boxes]


def cosines(
    crops: Float[np.ndarray, "n c f"], gallery: Float[np.ndarray, "s f"]
) -> Float[np.ndarray, "n c s"]:
    """The cosine between every crop's features and every subject's."""
    crops, gallery = (each / np.linalg.norm(each, axis=-1, keepdims=True) for each in (crops, gallery))
    products: np.ndarray = crops @ gallery.T
    return products


def similarity(
    cosine: Float[np.ndarray, "n c s"], candidates: Int[np.ndarray, "n k m"]
) -> Float[np.ndarray, "n k m"]:
    """Each candidate's cosine with the crop that is most like it."""
    best = cosine.max(axis=1)
    similar: np.ndarray = best[np.arange(len(best))[:, None, None], candidates]
    return similar


def first_is_best(similar: Float[np.ndarray, "n k m"]) -> Bool[np.ndarray, "n k"]:
    """Whether the first candidate, which is the right one, is the most similar."""
    best: np.ndarray = similar[..., 0] > similar[..., 1:].max(axis=-1)
    return best


def swapped(
    cosine: Float[np.ndarray, "n c s"], in_order: Int[np.ndarray, "n k"], columns: Int[np.ndarray, "c"]
) -> Bool[np.ndarray, "n"]:
    """Whether the subjects `in_order` (from left to right) fit the picture better in another order. Crops of
    column 0 lie on the left; there are as many columns as subjects.
    """
    places = range(in_order.shape[1])
    rows = np.arange(len(cosine))[:, None]
    # By column: each subject's cosine with the crop there that is most like it.
    there = [cosine[:, columns == place].max(axis=1)[rows, in_order] for place in places]
    asked, *others = (
        np.sum([there[place][:, index] for place, index in enumerate(order)], axis=0)
        for order in itertools.permutations(places)
    )
    better: np.ndarray = np.max(others, axis=0) > asked
    return better
