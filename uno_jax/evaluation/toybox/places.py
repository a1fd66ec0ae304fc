"""Where in a picture its subject stands, by how much every cell of a feature map is like the subject."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from uno_jax.evaluation.toybox.cases import side_of
from uno_jax.toybox import Sample


def centres(likeness: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, "n"]:
    """The horizontal centre of what is like the subject: 0 is the left edge, 1 the right one, and a picture
    in which all cells are equally like it has its centre in the middle.
    """
    weights = (likeness - likeness.min(axis=(1, 2), keepdims=True)).sum(axis=1)
    weights += np.finfo(weights.dtype).tiny
    across = (np.arange(weights.shape[1]) + 0.5) / weights.shape[1]
    found: np.ndarray = weights @ across / weights.sum(axis=1)
    return found


def follow_prompts(cases: Sequence[Sample], centre: Float[np.ndarray, "n"]) -> list[bool]:
    """Whether each subject stands on the side that its prompt names."""
    sides = [side_of(case) for case in cases]
    return [bool(at < 0.5 if side == "left" else at > 0.5) for side, at in zip(sides, centre, strict=True)]
