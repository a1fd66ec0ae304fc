"""Diptychs whose second panel is drawn by itself, with the first one as its reference, and pictures of the
toy world to begin with.

That is how a model draws that was trained on pairs: what it learned from a run's pairs makes the next run's.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from uno_jax.support.images import read_image

from ...common.manifest import Failed, Job, Json, Row, result_of
from ..config import SynthConfig
from ..pipeline.image_files import load_image, save_image
from ..pipeline.uno_sampler import Sampler, Wanted, run_program
from ..text.phrases import with_article

STAGE_NAME = "generate"
ACROSS, DOWN = (2, 1), (1, 2)  # panels in width and in height


def referenced_panels(config: SynthConfig, row: Row) -> Json:
    """What `Referenced` draws of a diptych: the first panel, the other subject alone if there is one (each
    as a prompt, or as the toy world's subjects and scene), and the second panel's prompt.
    """
    asked, captions = row.inputs, result_of(row)
    shown = {"first": asked["subject"], "other": asked["other"]}

    def alone(name: str, subject: str) -> Json | str:
        if config.generate.left:
            return {"subjects": [subject], "scene": asked["scene_1"]}
        if name == "first":
            return captions["caption_1"]
        words = {"subject": subject, "a_subject": with_article(subject), "scene": asked["scene_1"]}
        return config.diptychs.caption.format(**words)

    drawn = {name: alone(name, subject) for name, subject in shown.items() if subject is not None}
    return {"prompt": captions["caption_2"], "layout": asked["layout"], **drawn}


class Referenced:
    """Draws with `uno-sample`: without a LoRA what stands alone, then second panels with `generate.lora`."""

    def __init__(self, config: SynthConfig, folder: Path):
        own = config.generate
        self.folder, self.toybox = folder, own.left == "toybox"
        settings = (folder, own.model, own.steps, own.guidance, own.arguments)
        self.base, self.trained = Sampler(*settings, lora="none"), Sampler(*settings, lora=own.lora)

    def __call__(self, jobs: Sequence[Job]) -> list[Json | Failed]:
        references = [[path] for path in self.alone(jobs, "first")]
        joined = [number for number, job in enumerate(jobs) if "other" in job.inputs]
        others = self.alone([jobs[number] for number in joined], "other")
        for number, path in zip(joined, others, strict=True):
            references[number].append(path)
        wanted = [
            Wanted(job.inputs["prompt"], *panel_size(job), job.inputs["seed"], tuple(shown))
            for job, shown in zip(jobs, references, strict=True)
        ]
        seconds = self.trained(wanted, STAGE_NAME, [job.id for job in jobs])
        return [
            {"picture": self.join(job, shown[0], second)}
            for job, shown, second in zip(jobs, references, seconds, strict=True)
        ]

    def alone(self, jobs: Sequence[Job], name: str) -> list[str]:
        """Pictures of one subject each, as the jobs' inputs of that name say; their paths."""
        if self.toybox or not jobs:
            return toy_panels(self.folder, jobs, name)
        wanted = [Wanted(job.inputs[name], *panel_size(job), job.inputs["seed"]) for job in jobs]
        return self.base(wanted, STAGE_NAME, [f"{job.id}_{name}" for job in jobs])

    def join(self, job: Job, first: str, second: str) -> str:
        """Replaces a second panel's file by that of both."""
        width, height = panel_size(job)
        picture = Image.new("RGB", (job.inputs["width"], job.inputs["height"]))
        picture.paste(load_image(self.folder, first))
        picture.paste(
            load_image(self.folder, second), (job.inputs["width"] - width, job.inputs["height"] - height)
        )
        return save_image(picture, self.folder, STAGE_NAME, job.id)


def panel_size(job: Job) -> tuple[int, int]:
    """Width and height of one panel of a job with a `layout`."""
    columns, lines = ACROSS if job.inputs["layout"] == "left-right" else DOWN
    return job.inputs["width"] // columns, job.inputs["height"] // lines


def toy_panels(folder: Path, jobs: Sequence[Job], name: str) -> list[str]:
    """Draws the toy world's picture of every job's input of that name; returns their paths. Panels are square
    and stand side by side.
    """
    paths = [""] * len(jobs)
    for side in {job.inputs["height"] for job in jobs}:
        chosen = [index for index, job in enumerate(jobs) if job.inputs["height"] == side]
        entries = [jobs[index].inputs[name] | {"seed": jobs[index].inputs["seed"]} for index in chosen]
        # Named by its first job, so that the next run finds and removes what a killed one left.
        work = folder / "work" / f"{jobs[chosen[0]].id}-{name}"
        work.mkdir(parents=True, exist_ok=True)
        try:
            (work / "jobs.json").write_text(json.dumps(entries), encoding="utf-8")
            files = ["--jobs", str(work / "jobs.json"), "--out", str(work), "--size", str(side)]
            run_program([sys.executable, "-m", "uno_jax.toybox.draw", *files])
            for number, index in enumerate(chosen):
                image = read_image(work / f"{number}.png")
                paths[index] = save_image(image, folder, STAGE_NAME, jobs[index].id, name)
        finally:
            shutil.rmtree(work)
    return paths
