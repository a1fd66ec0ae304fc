"""Stage 7: pairs of pictures -> the cosines of their features and of their borders'; dissimilar pairs, copies
and copied backgrounds are rejected.
"""

from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ...common.errors import ToolError
from ...common.manifest import Failed, Job, Json, Row, result_of
from ...common.packages import check_packages
from ...common.readable import read_and_work
from ...common.worker import Worker
from ..config import SynthConfig
from ..judges.features import DINOV2_PACKAGES, EFFICIENTNET_PACKAGES, Dinov2, EfficientNetLite0, Features
from ..pipeline.image_files import load_image
from ..pipeline.import_lists import imported_pairs
from ..pipeline.stage import Rows, Stage

SOFTER = (1, 2)  # of the first picture's further views


def inputs(run: Rows) -> Iterator[Json]:
    """Panels, imported pairs, and crops of second subjects with their redrawn pictures."""
    for row in run.kept("split"):
        yield pair(row, "single", *result_of(row)["panels"])
    for row in imported_pairs(run):
        result = result_of(row)
        yield pair(row, "single", result["first"], result["second"])
    if run.seconds:
        for row in run.kept("second-reference"):
            yield pair(row, "second", row.inputs["crop"], result_of(row)["picture"])


def pair(row: Row, kind: str, first: str, second: str) -> Json:
    return {
        "parent": row.id,
        "kind": kind,
        "first": first,
        "second": second,
        "subject": row.inputs["subject"],
    }


def settings(config: SynthConfig) -> Any:
    own = config.filter_dino
    return [own.backend, own.model if own.backend == "dinov2" else ""]


def check_settings(config: SynthConfig) -> None:
    """Raises ToolError without the packages of the backend."""
    backend = config.filter_dino.backend
    packages = DINOV2_PACKAGES if backend == "dinov2" else EFFICIENTNET_PACKAGES
    check_packages(f"filter_dino.backend {backend}", *packages)


class Comparison:
    """Compares features of the two pictures of each pair."""

    features: Features

    def __init__(self, config: SynthConfig, folder: Path):
        self.folder, own = folder, config.filter_dino
        if own.backend == "dinov2":
            self.features = Dinov2(own.model, config.device)
        else:
            self.features = EfficientNetLite0(config.device)
        if own.max_border < 1 and self.features([Image.new("RGB", (64, 64))]).border is None:
            raise ToolError(
                f"filter_dino.max_border is {own.max_border:g}, but {own.model} has no patches, of which a "
                "border consists: choose another model, or a max_border of 1"
            )

    def __call__(self, jobs: Sequence[Job]) -> list[Json | Failed]:
        return read_and_work(jobs, self.read_pair, self.compare)

    def read_pair(self, job: Job) -> tuple[Image.Image, Image.Image]:
        first, second = (load_image(self.folder, job.inputs[name]) for name in ("first", "second"))
        return first, second

    def compare(self, jobs: list[Job], read: list[tuple[Image.Image, Image.Image]]) -> list[Json]:
        found = self.features([picture for both in read for picture in both])
        cosines = {"cosine": (found.whole[::2] * found.whole[1::2]).sum(1)}
        if found.border is not None:
            softer = [self.features([soften(first, each) for first, _ in read]).border for each in SOFTER]
            firsts = [found.border[::2], *(each for each in softer if each is not None)]
            cosines["background"] = background_cosines(firsts, found.border[1::2])
        return [
            {name: round(float(each[at]), 4) for name, each in cosines.items()} for at in range(len(read))
        ]


def background_cosines(
    firsts: Sequence[NDArray[np.float32]], seconds: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The cosines (pairs,) of the first and second pictures' borders (pairs, features), the highest over
    several views of the first ones: made pictures are softer than drawn or photographed ones, and sharpness
    alone makes the borders of one background differ.
    """
    best: NDArray[np.float32] = np.max([(first * seconds).sum(1) for first in firsts], axis=0)
    return best


def soften(picture: Image.Image, softness: int) -> Image.Image:
    """Blurred by a Gaussian whose radius is `softness` / 128 of the width."""
    return picture.filter(ImageFilter.GaussianBlur(softness * picture.width / 128))


def verdict(config: SynthConfig, row: Row) -> str:
    """A crop that is meant to be the reference itself does not count as a copy, and has little background."""
    own, result = config.filter_dino, result_of(row)
    cosine = result["cosine"]
    if cosine < own.threshold:
        return f"unlike: cosine {cosine:.3f} is below {own.threshold:g}"
    meant = row.inputs["kind"] == "second" and config.second_reference.crop_as_reference
    if cosine > own.max_cosine and not meant:
        return f"a copy: cosine {cosine:.3f} is above {own.max_cosine:g}"
    return copied_background(own.max_border, result) if row.inputs["kind"] == "single" else ""


def copied_background(max_border: float, result: Json) -> str:
    """Why a pair is rejected for its background; empty where it is not."""
    if max_border >= 1:
        return ""
    if (background := result.get("background")) is None:
        return (
            "the borders were not compared (a row of an earlier version): remove "
            "manifest/filter-dino.jsonl to compare them"
        )
    if background > max_border:
        return f"the same background: the borders' cosine {background:.3f} is above {max_border:g}"
    return ""


def worker(config: SynthConfig, folder: Path) -> Worker:
    return Comparison(config, folder)


STAGE = Stage(
    "filter-dino",
    inputs,
    settings,
    worker,
    verdict,
    attrgetter("filter_dino.batch_size"),
    check_settings,
)
