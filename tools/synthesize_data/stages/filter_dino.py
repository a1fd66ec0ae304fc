"""Stage 7: pairs of pictures -> the cosine of their features; unlike pairs go no further, nor do copies."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ...common.manifest import Failed, Job, Json, Row
from ...common.readable import read_and_work
from ..config import SynthConfig
from ..pipeline import image_files
from ..pipeline.import_lists import pairs
from ..pipeline.stage import Stage, Worker

if TYPE_CHECKING:
    from ..pipeline.run import Run


def inputs(run: "Run") -> Iterator[Json]:
    """Panels, imported pairs, and second subjects with their redrawn pictures."""
    for row in run.kept("split"):
        yield pair(row, "single", *(row.result or {})["panels"])
    for row in pairs(run):
        result = row.result or {}
        yield pair(row, "single", result["first"], result["second"])
    if run.seconds:
        for row in run.kept("second-reference"):
            yield pair(row, "second", row.inputs["crop"], (row.result or {})["picture"])


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


class Comparison:
    def __init__(self, config: SynthConfig, folder: Path):
        from ..judges.features import Dinov2, EfficientNetLite0

        self.folder = folder
        if config.filter_dino.backend == "dinov2":
            self.features = Dinov2(config.filter_dino.model, config.device)
        else:
            self.features = EfficientNetLite0(config.device)

    def __call__(self, jobs: Sequence[Job]) -> list[Json | Failed]:
        return read_and_work(jobs, self.read, self.compare)

    def read(self, job: Job) -> tuple[Image.Image, Image.Image]:
        first, second = (image_files.load(self.folder, job.inputs[name]) for name in ("first", "second"))
        return first, second

    def compare(self, jobs: list[Job], read: list[tuple[Image.Image, Image.Image]]) -> list[Json]:
        found = self.features([picture for both in read for picture in both])
        cosines = (found[::2] * found[1::2]).sum(1)
        return [{"cosine": round(float(cosine), 4)} for cosine in cosines]


def verdict(config: SynthConfig, row: Row) -> str:
    """A crop that is to be the reference itself is no copy by mistake."""
    own, cosine = config.filter_dino, (row.result or {})["cosine"]
    if cosine < own.threshold:
        return f"unlike: cosine {cosine:.3f} is below {own.threshold:g}"
    wanted = row.inputs["kind"] == "second" and config.second_reference.crop_as_reference
    if cosine > own.max_cosine and not wanted:
        return f"a copy: cosine {cosine:.3f} is above {own.max_cosine:g}"
    return ""


def worker(config: SynthConfig, folder: Path) -> Worker:
    return Comparison(config, folder)


STAGE = Stage(
    "filter-dino",
    inputs,
    settings,
    worker,
    verdict,
    lambda config: config.filter_dino.batch_size,
)
