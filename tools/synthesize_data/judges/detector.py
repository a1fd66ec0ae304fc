"""The interface of detectors: where in a picture is the thing of a given name?"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from PIL import Image

from ...common.manifest import Failed

Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels


class Found(NamedTuple):
    """`box` is None when nothing was found."""

    box: Box | None
    score: float


class Detector(Protocol):
    def __call__(self, images: Sequence[Image.Image], names: Sequence[str]) -> list[Found | Failed]:
        """Returns the best box for each picture's name."""
