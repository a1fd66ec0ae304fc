"""Stage 9: a target with a second subject -> its box and crop, by an open-vocabulary detector."""

from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from PIL import Image

from ...common.errors import ToolError
from ...common.manifest import Failed, Job, Json, Row, result_of
from ...common.packages import check_packages
from ...common.readable import read_and_work
from ...common.worker import Worker
from ..config import SynthConfig
from ..judges.catalog_detector import Catalog
from ..judges.detector import Box, Detector, Found
from ..judges.features import EFFICIENTNET_PACKAGES
from ..judges.word_detector import WORD_PACKAGES, WordDetector
from ..pipeline.image_files import load_image, save_image
from ..pipeline.stage import Rows, Stage

SMALLEST = 8  # smallest side in pixels of a box that can be cropped


def inputs(run: Rows) -> Iterator[Json]:
    """Pairs of one subject that passed both filters and whose second panel should show another one too."""
    earlier = run.before_seconds()
    cosines = {row.id: row for row in earlier.rows("filter-dino")}
    splits = {row.id: row for row in earlier.rows("split")}
    for row in earlier.kept("filter-vlm"):
        split = splits.get(cosines[row.inputs["parent"]].inputs["parent"])
        if split is not None and split.inputs["other"]:
            yield {"parent": row.id, "picture": row.inputs["second"], "name": split.inputs["other"]}


def settings(config: SynthConfig) -> Any:
    own = config.detect
    looked_for = own.catalog if own.backend == "catalog" else own.model
    return [own.backend, looked_for, own.margin]


def worker(config: SynthConfig, folder: Path) -> Worker:
    if config.detect.backend == "catalog":
        return Detection(Catalog(config.detect, config.device), config, folder)
    return Detection(WordDetector(config.detect, config.device), config, folder)


def check_settings(config: SynthConfig) -> None:
    """Raises ToolError for a margin below 0, and without the packages of the backend."""
    own = config.detect
    if own.margin < 0:
        raise ToolError(f"detect.margin must be 0 or more, got {own.margin}")
    packages = EFFICIENTNET_PACKAGES if own.backend == "catalog" else WORD_PACKAGES
    check_packages(f"detect.backend {own.backend}", *packages)


class Detection:
    """Reads pictures, runs a detector, and cuts out what it found."""

    def __init__(self, detector: Detector, config: SynthConfig, folder: Path):
        self.detector, self.margin, self.folder = detector, config.detect.margin, folder

    def __call__(self, jobs: Sequence[Job]) -> list[Json | Failed]:
        return read_and_work(jobs, lambda job: load_image(self.folder, job.inputs["picture"]), self.detect)

    def detect(self, jobs: list[Job], images: list[Image.Image]) -> list[Json | Failed]:
        found = self.detector(images, [job.inputs["name"] for job in jobs])
        return [
            each if isinstance(each, Failed) else self.crop_box(job, image, each)
            for job, image, each in zip(jobs, images, found, strict=True)
        ]

    def crop_box(self, job: Job, image: Image.Image, found: Found) -> Json:
        """The crop is saved whatever the verdict, because limits can be moved later."""
        box = clip_box(found.box, image.size) if found.box else None
        path = None
        if box:
            crop = image.crop(widen_box(box, self.margin, image.size))
            path = save_image(crop, self.folder, STAGE.name, job.id)
        return {
            "box": box and list(box),
            "score": round(found.score, 4),
            "size": list(image.size),
            "crop": path,
        }


def clip_box(box: Box, size: tuple[int, int]) -> Box | None:
    """The part of a box inside the picture; None if a side is shorter than SMALLEST."""
    x0, y0, x1, y1 = (min(max(edge, 0), size[index % 2]) for index, edge in enumerate(box))
    return (x0, y0, x1, y1) if min(x1 - x0, y1 - y0) >= SMALLEST else None


def widen_box(box: Box, margin: float, size: tuple[int, int]) -> Box:
    """The box widened on every side by a share of its width and height, within the picture."""
    across, down = (round(margin * (box[index + 2] - box[index])) for index in (0, 1))
    return (
        max(0, box[0] - across),
        max(0, box[1] - down),
        min(size[0], box[2] + across),
        min(size[1], box[3] + down),
    )


def verdict(config: SynthConfig, row: Row) -> str:
    """Rejects low scores, and boxes of implausible size or shape."""
    own, result = config.detect, result_of(row)
    if not result["box"]:
        return "not found"
    if result["score"] < own.threshold:
        return f"not found: score {result['score']:.2f} is below {own.threshold:g}"
    x0, y0, x1, y1 = result["box"]
    share = (x1 - x0) * (y1 - y0) / (result["size"][0] * result["size"][1])
    if not own.min_area <= share <= own.max_area:
        return f"odd box: {share:.1%} of the picture, outside {own.min_area:.0%} to {own.max_area:.0%}"
    aspect = max(x1 - x0, y1 - y0) / min(x1 - x0, y1 - y0)
    return f"odd box: {aspect:.1f} times as long as wide" if aspect > own.max_aspect else ""


STAGE = Stage("detect", inputs, settings, worker, verdict, attrgetter("detect.batch_size"), check_settings)
