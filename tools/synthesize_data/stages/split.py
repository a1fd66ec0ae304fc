"""Stage 6: a diptych -> its two panels, cut where they meet; pictures without a seam go no further."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...common.manifest import Failed, Job, Json, Row, SynthesisError
from ..config import SynthConfig
from ..judges.seam import find_seam
from ..pipeline import image_files
from ..pipeline.stage import Stage, Worker

if TYPE_CHECKING:
    from ..pipeline.run import Run

CARRIED = ("layout", "subject", "category", "group", "other", "other_category")


def inputs(run: "Run") -> Iterator[Json]:
    diptychs = {row.id: row for row in run.kept("diptychs")}
    for row in run.kept("generate"):
        diptych = diptychs[row.inputs["parent"]]
        said = diptych.result or {}
        yield {
            "parent": row.id,
            "picture": (row.result or {})["picture"],
            **{name: diptych.inputs[name] for name in CARRIED},
            "caption_1": said["caption_1"],
            "caption_2": said["caption_2"],
        }


def worker(config: SynthConfig, folder: Path) -> Worker:
    low, high = config.split.search
    if not 0 < low < high < 1:
        raise SynthesisError(f"split.search must be two shares, 0 < first < second < 1, got ({low}, {high})")

    def split(jobs: Sequence[Job]) -> list[Json | Failed]:
        return [split_one(job, (low, high), folder) for job in jobs]

    return split


def split_one(job: Job, search: tuple[float, float], folder: Path) -> Json | Failed:
    try:
        image = image_files.load(folder, job.inputs["picture"])
        turned = job.inputs["layout"] == "top-bottom"
        pixels = np.asarray(image)
        seam = find_seam(pixels.transpose(1, 0, 2) if turned else pixels, search)
    except (OSError, ValueError) as error:
        return Failed(str(error))
    start, stop = seam.gutter
    boxes = [(0, 0, start, image.height), (stop, 0, image.width, image.height)]
    if turned:
        boxes = [(0, 0, image.width, start), (0, stop, image.width, image.height)]
    panels = [cut(image, box, folder, job.id, str(number)) for number, box in enumerate(boxes, 1)]
    return {"seam": seam.position, "probability": round(seam.probability, 4), "panels": panels}


def cut(image: Image.Image, box: tuple[int, int, int, int], folder: Path, id: str, name: str) -> str:
    return image_files.save(image.crop(box), folder, STAGE.name, id, name)


def verdict(config: SynthConfig, row: Row) -> str:
    probability, least = (row.result or {})["probability"], config.split.min_probability
    return f"no seam: probability {probability:.2f} is below {least:g}" if probability < least else ""


STAGE = Stage(
    "split",
    inputs,
    lambda config: config.split,
    worker,
    verdict,
    lambda config: config.split.batch_size,
)
