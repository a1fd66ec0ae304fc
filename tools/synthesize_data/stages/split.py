"""Stage 6: a diptych -> its two panels, cut at the seam; pictures without a seam are rejected."""

from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path

import numpy as np

from ...common.errors import ToolError
from ...common.manifest import Failed, Job, Json, Row, result_of
from ...common.worker import Worker
from ..config import SynthConfig
from ..judges.seam import find_seam
from ..pipeline.image_files import load_image, save_image
from ..pipeline.stage import Rows, Stage

CARRIED = ("layout", "subject", "category", "group", "other", "other_category")


def inputs(run: Rows) -> Iterator[Json]:
    diptychs = {row.id: row for row in run.kept("diptychs")}
    for row in run.kept("generate"):
        diptych = diptychs[row.inputs["parent"]]
        said = diptych.result or {}
        yield {
            "parent": row.id,
            "picture": result_of(row)["picture"],
            **{name: diptych.inputs[name] for name in CARRIED},
            "caption_1": said["caption_1"],
            "caption_2": said["caption_2"],
        }


def worker(config: SynthConfig, folder: Path) -> Worker:
    low, high = config.split.search
    if not 0 < low < high < 1:
        raise ToolError(f"split.search must be two shares with 0 < first < second < 1, got ({low}, {high})")

    def split(jobs: Sequence[Job]) -> list[Json | Failed]:
        return [split_one(job, (low, high), folder) for job in jobs]

    return split


def split_one(job: Job, search: tuple[float, float], folder: Path) -> Json | Failed:
    try:
        image = load_image(folder, job.inputs["picture"])
        turned = job.inputs["layout"] == "top-bottom"
        pixels = np.asarray(image)
        seam = find_seam(pixels.transpose(1, 0, 2) if turned else pixels, search)
    except (OSError, ValueError) as error:
        return Failed(str(error))
    start, stop = seam.gutter
    boxes = [(0, 0, start, image.height), (stop, 0, image.width, image.height)]
    if turned:
        boxes = [(0, 0, image.width, start), (0, stop, image.width, image.height)]
    panels = [
        save_image(image.crop(box), folder, STAGE.name, job.id, str(number))
        for number, box in enumerate(boxes, 1)
    ]
    return {"seam": seam.position, "probability": round(seam.probability, 4), "panels": panels}


def verdict(config: SynthConfig, row: Row) -> str:
    probability, least = result_of(row)["probability"], config.split.min_probability
    return f"no seam: probability {probability:.2f} is below {least:g}" if probability < least else ""


STAGE = Stage(
    "split",
    inputs,
    attrgetter("split"),
    worker,
    verdict,
    attrgetter("split.batch_size"),
)
