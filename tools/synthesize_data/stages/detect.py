"""Stage 9: a target with a second subject -> where that is, and its crop: by an open-vocabulary detector."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from PIL import Image

from ...common.devices import choose_device, loading
from ...common.manifest import Failed, Job, Json, Row, SynthesisError
from ...common.readable import read_and_work
from ..config import SynthConfig
from ..pipeline import image_files
from ..pipeline.stage import Stage, Worker
from ..text.phrases import key

if TYPE_CHECKING:
    from ..pipeline.run import Run

Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels
SMALLEST = 8  # pixels of a box's side, of which a crop can be made


class Found(NamedTuple):
    """`box` is None when nothing was found."""

    box: Box | None
    score: float


class Detector(Protocol):
    def __call__(self, images: Sequence[Image.Image], names: Sequence[str]) -> list[Found | Failed]:
        """The best box of each picture's name."""


def inputs(run: "Run") -> Iterator[Json]:
    """Pairs of one subject that passed both filters and whose second panel was to show another one too."""
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
    if config.detect.margin < 0:
        raise SynthesisError(f"detect.margin must be 0 or more, got {config.detect.margin}")
    if config.detect.backend == "catalog":
        from ..judges.catalog_detector import Catalog

        return Detection(Catalog(config), config, folder)
    return Detection(WordDetector(config), config, folder)


class Detection:
    """Any detector, with reading, and cutting out, around it."""

    def __init__(self, detector: Detector, config: SynthConfig, folder: Path):
        self.detector, self.margin, self.folder = detector, config.detect.margin, folder

    def __call__(self, jobs: Sequence[Job]) -> list[Json | Failed]:
        return read_and_work(
            jobs, lambda job: image_files.load(self.folder, job.inputs["picture"]), self.detect
        )

    def detect(self, jobs: list[Job], images: list[Image.Image]) -> list[Json | Failed]:
        found = self.detector(images, [job.inputs["name"] for job in jobs])
        return [
            each if isinstance(each, Failed) else self.cut(job, image, each)
            for job, image, each in zip(jobs, images, found, strict=True)
        ]

    def cut(self, job: Job, image: Image.Image, found: Found) -> Json:
        """The crop is saved whatever the verdict, since limits can be moved."""
        box = within(found.box, image.size) if found.box else None
        path = None
        if box:
            crop = image.crop(with_margin(box, self.margin, image.size))
            path = image_files.save(crop, self.folder, STAGE.name, job.id)
        return {
            "box": box and list(box),
            "score": round(found.score, 4),
            "size": list(image.size),
            "crop": path,
        }


def within(box: Box, size: tuple[int, int]) -> Box | None:
    """The part of a box inside the picture; None for less than SMALLEST pixels a side."""
    x0, y0, x1, y1 = (min(max(edge, 0), size[index % 2]) for index, edge in enumerate(box))
    return (x0, y0, x1, y1) if min(x1 - x0, y1 - y0) >= SMALLEST else None


def with_margin(box: Box, margin: float, size: tuple[int, int]) -> Box:
    """The box widened on every side by a share of its width and height, as far as the picture goes."""
    across, down = (round(margin * (box[index + 2] - box[index])) for index in (0, 1))
    return (
        max(0, box[0] - across),
        max(0, box[1] - down),
        min(size[0], box[2] + across),
        min(size[1], box[3] + down),
    )


class WordDetector:
    """GroundingDINO (arXiv:2303.05499) or OWLv2 (arXiv:2306.09683) of transformers, asked for a name."""

    def __init__(self, config: SynthConfig):
        try:
            from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor
        except ImportError as error:
            raise SynthesisError(
                f"detect.backend {config.detect.backend}: pip install 'uno_jax[synth]' ({error})"
            ) from None
        self.device = choose_device(config.device)
        model = config.detect.model
        with loading("detect.model", model):
            self.processor = AutoProcessor.from_pretrained(model, backend="pil")
            self.model = AutoModelForZeroShotObjectDetection.from_pretrained(model).to(self.device).eval()
        kind = self.model.config.model_type
        self.owl = kind.startswith("owl")
        if self.owl != (config.detect.backend == "owlv2"):
            raise SynthesisError(
                f"detect.backend is {config.detect.backend}, but detect.model {model} is {kind}"
            )

    def __call__(self, images: Sequence[Image.Image], names: Sequence[str]) -> list[Found | Failed]:
        import torch

        texts = [[asked(name)] for name in names]
        # OWL's processor pads all names to the length that OWL reads.
        length = {} if self.owl else {"padding": True, "max_length": self.model.config.max_text_len}
        inputs = self.processor(
            images=list(images), text=texts, truncation=True, return_tensors="pt", **length
        )
        with torch.inference_mode():
            outputs = self.model(**inputs.to(self.device))
        sizes = [(image.height, image.width) for image in images]
        found = self.processor.post_process_grounded_object_detection(
            outputs, threshold=0.0, target_sizes=sizes
        )
        return [best(each) for each in found]


def asked(name: str) -> str:
    """As detectors want it: small letters, without the full stops that end GroundingDINO's phrases."""
    return key(name).replace(".", " ")


def best(found: dict[str, Any]) -> Found:
    """The box of the highest score, which the verdict judges."""
    if not len(found["scores"]):
        return Found(None, 0.0)
    at = int(found["scores"].argmax())
    x0, y0, x1, y1 = (round(edge) for edge in found["boxes"][at].tolist())
    return Found((x0, y0, x1, y1), float(found["scores"][at]))


def verdict(config: SynthConfig, row: Row) -> str:
    """Unsure boxes, and those whose size or shape is no subject's beside another."""
    own, result = config.detect, row.result or {}
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


STAGE = Stage("detect", inputs, settings, worker, verdict, lambda config: config.detect.batch_size)
