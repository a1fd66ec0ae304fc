"""The picture stages one after another on drawn pictures, up to the second subject in a scene of its own."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from tests.tiny_model import write_lora, write_model
from tools.common.errors import ToolError
from tools.common.manifest import Failed, Job, Row
from tools.synthesize_data.config import (
    DetectConfig,
    DiptychsConfig,
    FilterDinoConfig,
    FilterVlmConfig,
    ScenesConfig,
    SecondReferenceConfig,
    SubjectsConfig,
    SynthConfig,
    TaxonomyConfig,
)
from tools.synthesize_data.pipeline.image_files import load_image, save_image
from tools.synthesize_data.pipeline.run import Run
from tools.synthesize_data.stages import second_reference
from tools.synthesize_data.stages.order import STAGES
from uno_jax.families.uno.config import UnoPE
from uno_jax.toybox import compose, load_subjects

SCENES = ("on the grass", "in the snow", "in a plain studio")
DRAWN = {"on the grass": "grass", "in the snow": "snow", "in a plain studio": "studio"}
GROUPS = {"animals": ["tiger face"], "fruit": ["tomato"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run up to its splits: text by templates, pictures by the toybox in place of a generator."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "groups.json").write_text(json.dumps(GROUPS))
    config = SynthConfig(
        device="cpu",
        taxonomy=TaxonomyConfig(path=str(folder / "groups.json")),
        subjects=SubjectsConfig("template", ("realistic",), 1, templates=("{category}",)),
        scenes=ScenesConfig("template", per_subject=3, plain=0.0, scenes=SCENES),
        diptychs=DiptychsConfig(
            per_subject=2, two=1.0, layouts=("left-right", "top-bottom"), panels=((128, 128),)
        ),
        filter_dino=FilterDinoConfig("efficientnet-lite0", threshold=0.0, max_cosine=0.9999),
        filter_vlm=FilterVlmConfig("features", threshold=0.0),
        detect=DetectConfig("catalog", catalog="toybox", threshold=0.0),
        second_reference=SecondReferenceConfig(crop_as_reference=True, size=(32, 32)),
    )
    run = Run(folder, config, STAGES)
    for stage in ("taxonomy", "subjects", "scenes", "diptychs"):
        run.run_stage(stage)
    run.manifest("generate").append(draw(run, job) for job in run.jobs("generate"))
    run.forget()
    run.run_stage("split")
    return run


def draw(run: Run, job: Job) -> Row:
    """The diptych that the job's prompt asks for."""
    subjects = {subject.name: subject for subject in load_subjects(split="train")}
    (asked,) = [row.inputs for row in run.rows("diptychs") if row.id == job.inputs["parent"]]
    rng = np.random.default_rng(job.inputs["seed"])
    first, second = subjects[asked["subject"]], subjects[asked["other"]]
    panels = [
        compose(rng, shown, DRAWN[asked[scene]], 128).image
        for shown, scene in (([first], "scene_1"), ([first, second], "scene_2"))
    ]
    whole = np.concatenate(panels, axis=1 if asked["layout"] == "left-right" else 0)
    assert whole.shape[:2] == (job.inputs["height"], job.inputs["width"])
    path = save_image(Image.fromarray(whole), run.folder, "generate", job.id)
    return Row(job.id, job.inputs, {"picture": path})


@pytest.mark.slow
def test_every_stage_follows_from_the_one_before(run):
    """The second subjects' pictures go through the filters that their own inputs came from."""
    for stage in ("filter-dino", "filter-vlm", "detect", "second-reference"):
        run.run_stage(stage)
    singles = run.kept("filter-vlm")
    assert len(run.kept("split")) == len(singles) >= 3
    found = run.kept("second-reference")
    assert found and len(found) == len(run.kept("detect"))
    assert len(run.jobs("filter-dino")) == len(singles) + len(found)
    for stage in ("filter-dino", "filter-vlm"):
        run.run_stage(stage)
        assert {row.inputs["kind"] for row in run.kept(stage)} == {"single", "second"}
    assert [row.id for row in run.rows("filter-vlm")[: len(singles)]] == [row.id for row in singles]
    assert len(run.rows("detect")) == len(singles)
    second = next(row for row in run.kept("filter-dino") if row.inputs["kind"] == "second")
    assert second.result["cosine"] == pytest.approx(1, abs=1e-3)  # the crop itself
    parent = {row.id: row for row in found}[second.inputs["parent"]]
    crop, picture = (
        load_image(run.folder, path) for path in (parent.inputs["crop"], parent.result["picture"])
    )
    assert np.array_equal(np.asarray(crop), np.asarray(picture))


def test_the_scene_is_another_than_the_targets(run):
    targets = second_reference.target_scenes(run)
    for row in run.jobs("second-reference"):
        subject, scene = row.inputs["prompt"].split(", ")
        assert subject == row.inputs["subject"] and scene in SCENES
        assert scene != targets[row.inputs["parent"]] != ""
    again = Run(run.folder, run.config, STAGES).jobs("second-reference")
    assert again == run.jobs("second-reference")
    own = dataclasses.replace(run.config.second_reference, seed=1)
    other = Run(run.folder, dataclasses.replace(run.config, second_reference=own), STAGES).jobs(
        "second-reference"
    )
    assert {job.inputs["seed"] for job in other}.isdisjoint(job.inputs["seed"] for job in again)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "{subject} in {place}"}, r"has the unknown field \{place\}"),
        ({"size": (500, 512)}, "multiples of 16 pixels"),
        ({"size": (0, 512)}, "multiples of 16 pixels"),
        ({"steps": 0}, "second_reference.steps must be 1 or more"),
    ],
)
def test_settings_that_no_picture_can_come_of_are_refused(run, changes, message):
    own = dataclasses.replace(run.config.second_reference, **changes)
    with pytest.raises(ToolError, match=message):
        second_reference.STAGE.check_settings(dataclasses.replace(run.config, second_reference=own))


def test_a_run_of_one_scene_is_told():
    with pytest.raises(ToolError, match="no scene except 'on the grass'"):
        second_reference.choose_scene([(1, "on the grass")], "on the grass", "id", 0)


@pytest.mark.slow
def test_the_model_draws_it_with_the_crop_as_reference(tmp_path):
    model = write_model(tmp_path / "model")
    lora = write_lora(tmp_path / "lora", UnoPE())
    own = SecondReferenceConfig(model=str(model), lora=str(lora), steps=1, arguments=("--ref-size", "32"))
    worker = second_reference.STAGE.worker(SynthConfig(second_reference=own), tmp_path)

    def job(id: str, crop: str) -> Job:
        sized = {"width": 32, "height": 32, "seed": 5, "prompt": "a cat, in the snow"}
        return Job(id, {"crop": crop, "subject": "a cat", **sized})

    crops = [
        save_image(Image.new("RGB", (40, 40), colour), tmp_path, "detect", f"{number:04x}")
        for number, colour in enumerate(("red", "blue"))
    ]
    red, absent, blue = worker([job("aa", crops[0]), job("bb", "absent.png"), job("cc", crops[1])])
    assert isinstance(absent, Failed) and "absent.png is not a readable picture" in absent.reason
    first, second = (np.asarray(load_image(tmp_path, each["picture"])) for each in (red, blue))
    assert first.shape == (32, 32, 3)
    assert (first != second).any()  # the same words and seed: the reference makes the difference
