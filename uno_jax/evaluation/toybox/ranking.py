"""Which subject a picture shows: features of the picture, or of its crops, against those of every candidate.

Arrays: n pictures, c crops of each, s subjects, k subjects that a picture should show, m candidates for each.
"""

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy.random import Generator

CANDIDATES = 20  # the right one and 19 others
# Squares in which a subject is looked for when there are two: left, top and side as fractions. Their centres
# are where two subjects stand; other sizes and whole halves found fewer (docs/evaluation.md).
CROPS = tuple((left, top, 0.45) for left in (0.04, 0.51) for top in (0.1, 0.325, 0.55))
ON_LEFT = np.array([left + side / 2 < 0.5 for left, _, side in CROPS])


def draw_candidates(rng: Generator, shown: Int[np.ndarray, "n k"], total: int) -> Int[np.ndarray, "n k 20"]:
    """For each subject shown: itself first, then 19 random others of `total`, none of them in the picture."""
    rows = []
    for together in shown:
        others = np.setdiff1d(np.arange(total), together)
        rows.append([[own, *rng.choice(others, CANDIDATES - 1, replace=False)] for own in together])
    return np.array(rows)


def cut_crops(picture: UInt8[np.ndarray, "h w 3"]) -> list[UInt8[np.ndarray, "side side 3"]]:
    """The picture's crops at CROPS."""
    size = len(picture)
    boxes = [(round(left * size), round(top * size), round(side * size)) for left, top, side in CROPS]
    return [picture[top : top + side, left : left + side] for left, top, side in boxes]


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
    cosine: Float[np.ndarray, "n c s"], in_order: Int[np.ndarray, "n 2"], on_left: Bool[np.ndarray, "c"]
) -> Bool[np.ndarray, "n"]:
    """Whether the subjects `in_order` (from left to right) fit the picture better the other way round."""
    rows = np.arange(len(cosine))[:, None]
    left = cosine[:, on_left].max(axis=1)[rows, in_order]
    right = cosine[:, ~on_left].max(axis=1)[rows, in_order]
    better: np.ndarray = right[:, 0] + left[:, 1] > left[:, 0] + right[:, 1]
    return better
