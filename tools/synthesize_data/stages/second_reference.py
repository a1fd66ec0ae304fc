"""Stage 10: the second subject's crop -> its picture in a scene of its own, drawn by the stage I model.

With the crop itself as the reference the model would learn to copy pixels (the paper's ablation).
"""

from bisect import bisect
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from PIL import Image

from ...common.errors import ToolError
from ...common.hashed_choice import hash_number
from ...common.manifest import Failed, Job, Json, result_of
from ...common.readable import read_and_work
from ...common.worker import Worker
from ..config import SecondReferenceConfig, SynthConfig
from ..pipeline.image_files import load_image, save_image
from ..pipeline.stage import Rows, Stage
from ..pipeline.uno_sampler import Sampler, Wanted
from ..text.phrases import with_article
from ..text.templates import template_fields

FIELDS = ("subject", "a_subject", "scene")


def inputs(run: Rows) -> Iterator[Json]:
    own = run.config.second_reference
    found = run.kept("detect")
    scenes = {scene for row in run.kept("scenes") for scene in result_of(row)["scenes"]}
    ring = sorted((hash_number("ring", scene), scene) for scene in scenes)
    targets = target_scenes(run)
    for row in found:
        subject = row.inputs["name"]
        scene = choose_scene(ring, targets[row.id], row.id, own.seed)
        words = {"subject": subject, "a_subject": with_article(subject), "scene": scene}
        yield {
            "parent": row.id,
            "crop": result_of(row)["crop"],
            "prompt": own.prompt.format(**words),
            "width": own.size[0],
            "height": own.size[1],
            "seed": hash_number("second-reference", row.id, own.seed) % 2**31,
            "subject": subject,
        }


def check_settings(config: SynthConfig) -> None:
    """Raises ToolError for settings that cannot give a picture. The model may not exist yet: it is trained on
    the pairs of one subject.
    """
    own = config.second_reference
    template_fields(own.prompt, FIELDS, "second_reference.prompt")
    if min(own.size) < 16 or any(side % 16 for side in own.size):
        raise ToolError(f"second_reference.size must be multiples of 16 pixels, got {own.size}")
    if own.steps < 1:
        raise ToolError(f"second_reference.steps must be 1 or more, got {own.steps}")


def target_scenes(run: Rows) -> dict[str, str]:
    """The scene of each box's target, by the box's row id."""
    parents: dict[str, str] = {}
    earlier = run.before_seconds()
    for stage in ("filter-vlm", "filter-dino", "split", "generate"):
        parents |= {row.id: row.inputs["parent"] for row in earlier.rows(stage)}
    diptychs = {row.id: row.inputs["scene_2"] for row in run.rows("diptychs")}
    scenes = {}
    for row in run.kept("detect"):
        at = row.inputs["parent"]
        while at in parents:
            at = parents[at]
        scenes[row.id] = diptychs.get(at, "")
    return scenes


def choose_scene(ring: Sequence[tuple[int, str]], target: str, id: str, seed: int) -> str:
    """The next scene on the ring that is not the target's; adding a scene to the run changes few choices.

    Raises ToolError when there is no other scene.
    """
    start = bisect(ring, hash_number("scene", id, seed), key=lambda entry: entry[0])
    for step in range(len(ring)):
        scene = ring[(start + step) % len(ring)][1]
        if scene != target:
            return scene
    raise ToolError(f"second-reference: the run has no scene except {target!r}; make more scenes")


def settings(config: SynthConfig) -> Any:
    own = config.second_reference
    if own.crop_as_reference:
        return ["crop"]
    return ["model", own.model, own.lora, own.steps, own.guidance, own.arguments]


def worker(config: SynthConfig, folder: Path) -> Worker:
    if config.second_reference.crop_as_reference:
        return Copier(folder)
    return Redrawer(config.second_reference, folder)


class Copier:
    """Uses crops unchanged."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, jobs: Sequence[Job]) -> list[Json | Failed]:
        return read_and_work(jobs, lambda job: load_image(self.folder, job.inputs["crop"]), self.copy)

    def copy(self, jobs: list[Job], crops: list[Image.Image]) -> list[Json]:
        return [
            {"picture": save_image(crop, self.folder, STAGE.name, job.id)}
            for job, crop in zip(jobs, crops, strict=True)
        ]


class Redrawer:
    """Draws pictures with the crop as the only reference."""

    def __init__(self, own: SecondReferenceConfig, folder: Path):
        self.folder = folder
        self.sampler = Sampler(folder, own.model, own.steps, own.guidance, own.arguments, own.lora)

    def __call__(self, jobs: Sequence[Job]) -> list[Json | Failed]:
        """Crops are read here first: an unreadable one would stop the sampler's whole list."""
        return read_and_work(jobs, lambda job: load_image(self.folder, job.inputs["crop"]), self.redraw)

    def redraw(self, jobs: list[Job], _: list[Image.Image]) -> list[Json]:
        wanted = [
            Wanted(each["prompt"], each["width"], each["height"], each["seed"], (each["crop"],))
            for each in (job.inputs for job in jobs)
        ]
        paths = self.sampler(wanted, STAGE.name, [job.id for job in jobs])
        return [{"picture": path} for path in paths]


STAGE = Stage(
    "second-reference",
    inputs,
    settings,
    worker,
    batch_size=attrgetter("second_reference.batch_size"),
    check_settings=check_settings,
)
