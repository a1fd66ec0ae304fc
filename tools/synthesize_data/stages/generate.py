"""Stage 5: a prompt for two panels -> its picture, by a pipeline of diffusers or uno_jax's sampler."""

import inspect
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from uno_jax.support.words import counted

from ...common.devices import check_model_named, choose_device, loading
from ...common.errors import ToolError
from ...common.manifest import Failed, Job, Json, id_settings, result_of
from ...common.packages import check_packages
from ...common.worker import Worker
from ..config import SynthConfig, TaxonomyConfig
from ..pipeline.image_files import load_image, save_image
from ..pipeline.stage import Rows, Stage
from ..pipeline.uno_sampler import Sampler, Wanted
from .referenced import ACROSS, DOWN, STAGE_NAME, Referenced, referenced_panels, toy_panels
from .taxonomy import choose_groups, toybox_groups


def inputs(run: Rows) -> Iterator[Json]:
    """Sorted by size, so that most batches contain only one size."""
    rows = []
    for row in run.kept("diptychs"):
        (width, height), layout = row.inputs["panel"], row.inputs["layout"]
        columns, lines = ACROSS if layout == "left-right" else DOWN
        size = {"width": columns * width, "height": lines * height}
        prompt = result_of(row)["prompt"]
        inputs = {"parent": row.id, "prompt": prompt, **size, "seed": row.inputs["seed"]}
        if run.config.generate.second == "referenced":
            inputs |= referenced_panels(run.config, row)
        elif run.config.generate.left:
            inputs |= left_panels(row.inputs)
        rows.append(inputs)
    yield from sorted(rows, key=lambda row: (row["width"], row["height"]))


def left_panels(asked: Json) -> Json:
    """What the left panel shows. If the right panel is to show a second subject as well, it is completed from
    a picture of both, which is `given` in place of the left panel.
    """
    subject, other, scene = asked["subject"], asked["other"], asked["scene_1"]
    left = {"left": {"subjects": [subject], "scene": scene}}
    return left if other is None else left | {"given": {"subjects": [subject, other], "scene": scene}}


def worker(config: SynthConfig, folder: Path) -> Worker:
    if config.generate.second == "referenced":
        return Referenced(config, folder)
    return OwnSampler(config, folder) if config.generate.backend == "uno_jax" else Pipeline(config, folder)


def settings(config: SynthConfig) -> Any:
    """Without `second` and `lora` where they are as in versions that did not have them, whose ids stay."""
    found = id_settings(config.generate)
    usual = {"second": "completed", "lora": ""}
    return {name: value for name, value in found.items() if usual.get(name) != value}


def check_settings(config: SynthConfig) -> None:
    """Raises ToolError for settings that cannot give a picture."""
    own = config.generate
    if own.backend == "diffusers":
        check_packages("generate.backend diffusers", "torch", "diffusers")
    check_model_named("generate.model", own.model)
    if own.steps < 1:
        raise ToolError(f"generate.steps must be 1 or more, got {own.steps}")
    referenced = own.second == "referenced"
    for name in ("arguments", "left", *(["second"] if referenced else [])):
        if (value := getattr(own, name)) and own.backend != "uno_jax":
            raise ToolError(
                f"generate.{name} {value} needs generate.backend uno_jax; remove it, or change the backend"
            )
    if own.lora and not referenced:
        raise ToolError(
            f"generate.lora {own.lora} draws referenced panels only: remove it, or pass --generate.second "
            "referenced"
        )
    square = all(width == height for width, height in config.diptychs.panels)
    if own.left and not (square and config.diptychs.layouts == ("left-right",)):
        raise ToolError(
            f"generate.left {own.left} needs square panels side by side: diptychs.layouts left-right and"
            f" panels like 128 128, got {config.diptychs.layouts} and {config.diptychs.panels}"
        )
    if own.left:
        check_drawn_categories(config.taxonomy)


def check_drawn_categories(taxonomy: TaxonomyConfig) -> None:
    """Raises ToolError for categories that the toy world's training subjects do not include."""
    known = {name for names in toybox_groups().values() for name in names}
    chosen = [name for names in choose_groups(taxonomy).values() for name in names]
    if strange := [name for name in chosen if name not in known]:
        raise ToolError(
            f"generate.left toybox draws its own training subjects only, and taxonomy.path "
            f"{taxonomy.path or '(the classes of Objects365)'} has {counted(len(strange), 'other')}, such as "
            f"{strange[0]!r}: use names from uno_jax/toybox/assets/manifest.json, or taxonomy.path toybox"
        )


class Pipeline:
    """A text-to-image pipeline of diffusers."""

    def __init__(self, config: SynthConfig, folder: Path):
        self.config, self.folder = config.generate, folder
        import torch
        from diffusers import DiffusionPipeline

        device = choose_device(config.device)
        with loading("generate.model", self.config.model):
            dtype = getattr(torch, self.config.dtype)
            pipeline = DiffusionPipeline.from_pretrained(self.config.model, torch_dtype=dtype)
        self.parameters = accepted_parameters(pipeline, self.config.model)
        self.pipeline = pipeline.to(device)
        self.pipeline.set_progress_bar_config(disable=True)

    def __call__(self, jobs: Sequence[Job]) -> list[Json | Failed]:
        results: dict[str, Json | Failed] = {}
        for size in dict.fromkeys(size_of(job) for job in jobs):
            group = [job for job in jobs if size_of(job) == size]
            results |= zip((job.id for job in group), self.sample(group, *size), strict=True)
        return [results[job.id] for job in jobs]

    def sample(self, jobs: Sequence[Job], width: int, height: int) -> Iterator[Json | Failed]:
        """Samples pictures of one size. Each has its own generator, on the CPU: its noise depends neither on
        the batch nor on the device.
        """
        import torch

        arguments = {
            "prompt": [job.inputs["prompt"] for job in jobs],
            "width": width,
            "height": height,
            "num_inference_steps": self.config.steps,
            "guidance_scale": self.config.guidance,
            "generator": [torch.Generator("cpu").manual_seed(job.inputs["seed"]) for job in jobs],
        }
        output = self.pipeline(**{name: arguments[name] for name in arguments if name in self.parameters})
        flags = getattr(output, "nsfw_content_detected", None) or [False] * len(jobs)
        for job, image, unsafe in zip(jobs, output.images, flags, strict=True):
            if image.size != (width, height):
                raise ToolError(
                    f"generate.model {self.config.model} made {image.size[0]}x{image.size[1]} pixels"
                    f" instead of {width}x{height}: choose other diptychs.panels"
                )
            if unsafe:
                yield Failed("blacked out by the pipeline's safety checker")
            else:
                yield {"picture": save_image(image, self.folder, STAGE.name, job.id)}


def size_of(job: Job) -> tuple[int, int]:
    return job.inputs["width"], job.inputs["height"]


def accepted_parameters(pipeline: Any, model: str) -> set[str]:
    """Names of the arguments that a pipeline accepts.

    Raises ToolError for one that needs a picture.
    """
    parameters = inspect.signature(pipeline.__call__).parameters
    needed = {name for name, each in parameters.items() if each.default is each.empty} - {"prompt", "kwargs"}
    lacking = {"prompt", "width", "height", "generator"} - set(parameters)
    if needed or lacking or "image" in parameters:
        raise ToolError(
            f"generate.model {model} is a {type(pipeline).__name__}, which does not make pictures of a given"
            " size from text alone; choose a text-to-image pipeline"
        )
    return set(parameters)


class OwnSampler:
    """`uno-sample`."""

    def __init__(self, config: SynthConfig, folder: Path):
        own = config.generate
        self.folder, self.left = folder, own.left
        self.sampler = Sampler(folder, own.model, own.steps, own.guidance, own.arguments)

    def __call__(self, jobs: Sequence[Job]) -> list[Json | Failed]:
        drawn = toy_panels(self.folder, jobs, "left") if self.left else [""] * len(jobs)
        joined = [job for job in jobs if "given" in job.inputs]
        given = dict(zip((job.id for job in joined), toy_panels(self.folder, joined, "given"), strict=True))
        wanted = [
            Wanted(job.inputs["prompt"], *size_of(job), job.inputs["seed"], left=given.get(job.id, left))
            for job, left in zip(jobs, drawn, strict=True)
        ]
        paths = self.sampler(wanted, STAGE.name, [job.id for job in jobs])
        if self.left:
            paths = [self.replace_left(*each) for each in zip(paths, drawn, jobs, strict=True)]
        return [{"picture": path} for path in paths]

    def replace_left(self, path: str, left: str, job: Job) -> str:
        """Replaces the left panel, which went through the autoencoder, by the original drawing."""
        diptych = load_image(self.folder, path)
        diptych.paste(load_image(self.folder, left))
        return save_image(diptych, self.folder, STAGE.name, job.id)


STAGE = Stage(
    STAGE_NAME,
    inputs,
    settings,
    worker,
    batch_size=attrgetter("generate.batch_size"),
    check_settings=check_settings,
)
