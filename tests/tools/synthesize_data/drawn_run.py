"""A run whose diptychs are drawn, not sampled: every other stage is the program's own, on pictures that
deserve to be kept.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
from PIL import Image

from tools.common.manifest import Manifest
from tools.synthesize_data.config import SynthConfig
from tools.synthesize_data.config_files import load_config
from tools.synthesize_data.pipeline.image_files import save_image
from tools.synthesize_data.stages.order import STAGES
from uno_jax.toybox import SCENES, compose, load_subjects

SUBJECTS = 12


class Painter:
    """Draws a diptych's subjects and scenes; every fifth picture is one scene without a seam."""

    def __init__(self, config: SynthConfig, folder: Path):
        self.folder = folder
        self.subjects = {subject.name: subject for subject in load_subjects(split="train")}
        self.scenes = {scene.phrases[0]: name for name, scene in SCENES.items()}

    def __call__(self, jobs):
        diptychs = Manifest(self.folder / "manifest/diptychs.jsonl").read()
        return [self.draw(job, diptychs[job.inputs["parent"]].inputs) for job in jobs]

    def draw(self, job, said):
        rng = np.random.default_rng(job.inputs["seed"])
        side = job.inputs["height"]
        first = [self.subjects[said["subject"]]]
        shown = first + ([self.subjects[said["other"]]] if said["other"] else [])
        left, right = (self.scenes[said[name]] for name in ("scene_1", "scene_2"))
        if job.inputs["seed"] % 5 == 0:
            wide = Image.fromarray(compose(rng, first, left, 2 * side).image)
            image = wide.crop((0, side // 2, 2 * side, side // 2 + side))
        else:
            halves = [compose(rng, first, left, side).image, compose(rng, shown, right, side).image]
            image = Image.fromarray(np.concatenate(halves, axis=1))
        return {"picture": save_image(image, self.folder, "generate", job.id)}


def drawn_config(folder: Path) -> SynthConfig:
    """The preset "small" for a few subjects, without any sampler: crops are the second references."""
    names = [subject.name for subject in load_subjects(split="train")][:: 544 // SUBJECTS][:SUBJECTS]
    listed = folder / "names.json"
    listed.write_text(json.dumps({"one": names[::2], "two": names[1::2]}))
    config = load_config("small")
    return dataclasses.replace(
        config,
        taxonomy=dataclasses.replace(config.taxonomy, path=str(listed)),
        second_reference=dataclasses.replace(config.second_reference, crop_as_reference=True),
    )


def paint(monkeypatch) -> None:
    """Puts the painter in the sampler's place."""
    monkeypatch.setitem(STAGES, "generate", dataclasses.replace(STAGES["generate"], worker=Painter))
