"""Settings of every stage. A configuration file defines get_config() that returns a SynthConfig.

Fields made by `how` can change without anything being done again; the others are part of what a row is.
"""

import dataclasses
import importlib
import json
import runpy
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from ..common.manifest import SynthesisError, how

PRESETS = Path(__file__).parent / "presets"
Manner = Literal["imaginative", "realistic", "with text"]
Layout = Literal["left-right", "top-bottom"]


@dataclass(frozen=True)
class ModelConfig:
    """A language model, with or without eyes."""

    backend: Literal["openai", "transformers"] = "openai"
    """"openai": any endpoint of that protocol. "transformers": a model in this process."""
    model: str = ""
    """The endpoint's name of the model, or a directory or hub name for transformers."""
    endpoint: str = how("")
    """Base URL, such as http://localhost:8000/v1; empty: what OPENAI_BASE_URL says. The key comes from
    OPENAI_API_KEY.
    """
    temperature: float = 0.7
    max_tokens: int = 4096
    """Of an answer."""
    attempts: int = how(3)
    """Answers asked for until one can be read."""
    timeout: float = how(120.0)
    """Seconds for one answer of an endpoint."""
    retries: int = how(4)
    """Of a request that is lost, refused for now (429) or fails on the other side (5xx)."""
    parallel: int = how(8)
    """Requests to an endpoint at a time."""


@dataclass(frozen=True)
class TaxonomyConfig:
    path: str = how("")
    """A list of one's own: JSON {"group": ["category", ...]}. "toybox": the toy world's training subjects.
    Empty: the 365 classes of Objects365.
    """
    groups: tuple[str, ...] = how(())
    """Only these; empty: all."""


@dataclass(frozen=True)
class SubjectsConfig:
    """The paper's appendix F: 50 a category in each of three manners, at most 12 words each."""

    backend: Literal["model", "template"] = "model"
    manners: tuple[Manner, ...] = ("imaginative", "realistic", "with text")
    per_manner: int = 50
    max_words: int = 12
    templates: tuple[str, ...] = ()
    """Of the template backend, such as "{colour} {category}"; the lists of words are in data/subjects.json.
    Empty: those that come with it.
    """
    batch_size: int = how(64)


@dataclass(frozen=True)
class ScenesConfig:
    """The paper's appendix F: eight one-line scenes a subject, at most 77 tokens of CLIP each."""

    backend: Literal["model", "template"] = "model"
    per_subject: int = 8
    max_tokens: int = 77
    plain: float = 0.1
    """Share of the subjects that stand before plain and studio backgrounds."""
    scenes: tuple[str, ...] = ()
    """Of the template backend, such as "on a pier at dawn"; empty: those that come with it."""
    plain_scenes: tuple[str, ...] = ()
    """The same for subjects before plain backgrounds."""
    batch_size: int = how(64)


@dataclass(frozen=True)
class DiptychsConfig:
    per_subject: int = 4
    """Diptychs of each subject, each of two of its scenes."""
    two: float = 0.5
    """Share whose second panel shows another subject too."""
    layouts: tuple[Layout, ...] = ("left-right", "top-bottom")
    panels: tuple[tuple[int, int], ...] = ((1024, 1024), (1024, 768), (768, 1024))
    """(width, height) of a panel; the picture is two of them."""
    prompts: tuple[str, ...] = ()
    """With {subject}, {a_subject} (with its article), {scene_1}, {scene_2}, {first} and {second} (left and
    right, or top and bottom), {arrangement} ("side by side"); empty: those that come with it.
    """
    prompts_two: tuple[str, ...] = ()
    """The same for two subjects, with {other} and {a_other}."""
    caption: str = "{a_subject} {scene}"
    """Of one panel, which becomes a sample's prompt."""
    caption_two: str = "{a_subject} and {a_other} {scene}"
    seed: int = 0


@dataclass(frozen=True)
class GenerateConfig:
    backend: Literal["diffusers", "uno_jax"] = "diffusers"
    """Any text-to-image pipeline of diffusers, or `python -m uno_jax.sample --jobs`."""
    model: str = "black-forest-labs/FLUX.1-dev"
    steps: int = 28
    guidance: float = 3.5
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Of a diffusers pipeline."""
    arguments: tuple[str, ...] = ()
    """More for `uno_jax.sample`, such as ("--batch-size", "16")."""
    left: Literal["", "toybox"] = ""
    """For uno_jax: the left panel is given and the right one made (diptych prompting); a toy world's picture
    of the subject in its first scene. Empty: both are made.
    """
    batch_size: int = how(4)
    """Pictures at a time; for uno_jax, pictures of one start of the program."""


@dataclass(frozen=True)
class SplitConfig:
    search: tuple[float, float] = (0.35, 0.65)
    """Where the seam can be, as shares of the width or height."""
    min_probability: float = how(0.5)
    """Of there being a seam: even odds."""
    batch_size: int = how(64)


@dataclass(frozen=True)
class FilterDinoConfig:
    """Cosine of two pictures' features; the paper's size and threshold are not published."""

    backend: Literal["dinov2", "efficientnet-lite0"] = "dinov2"
    model: str = "facebook/dinov2-large"
    threshold: float = how(0.6)
    max_cosine: float = how(0.99)
    """Above it the second picture is a copy of the first."""
    batch_size: int = how(32)


@dataclass(frozen=True)
class FilterVlmConfig:
    """Parts named, compared and scored 0 to 4 by a vision-language model; the paper trains on a mean of 4."""

    backend: Literal["model", "features"] = "model"
    model: ModelConfig = ModelConfig(temperature=0.0)
    threshold: float = how(4.0)
    batch_size: int = how(16)


@dataclass(frozen=True)
class DetectConfig:
    """Where the second subject is in the target."""

    backend: Literal["grounding-dino", "owlv2", "catalog"] = "grounding-dino"
    model: str = "IDEA-Research/grounding-dino-base"
    catalog: str = ""
    """For "catalog": a folder of named pictures (manifest.json) to look for, in place of words; "toybox": the
    subjects of uno_jax.
    """
    threshold: float = how(0.35)
    """Of a box's score: a detector's own, or the catalogue's cosine (see benchmarks/judge.py)."""
    min_area: float = how(0.02)
    """Share of the picture that a box must cover, and at most may."""
    max_area: float = how(0.6)
    max_aspect: float = how(4.0)
    """Of a box's longer to its shorter side."""
    margin: float = 0.05
    """Added around a box before it is cut out, as a share of its sides."""
    batch_size: int = how(16)


@dataclass(frozen=True)
class SecondReferenceConfig:
    """The stage I model draws the second subject again in another scene, from its crop."""

    crop_as_reference: bool = False
    """Take the crop itself: the paper's ablation, which teaches copying."""
    model: str = "weights/flux-dev"
    lora: str = "weights/uno-stage1"
    """Empty: the one that comes with the model."""
    prompt: str = "{subject}, {scene}"
    """With {subject}, {a_subject} (with its article) and {scene}, one of the run's."""
    size: tuple[int, int] = (512, 512)
    """Width and height."""
    steps: int = 25
    guidance: float = 4.0
    arguments: tuple[str, ...] = ()
    """More for `uno_jax.sample`."""
    seed: int = 0
    batch_size: int = how(64)
    """Pictures of one start of `uno_jax.sample`."""


@dataclass(frozen=True)
class ExportConfig:
    val_share: float = 0.02
    """Of the subjects, whose pairs all go to the validation lists."""
    duplicate_distance: int = 4
    """Bits in which the perceptual hashes (64 bits) of two targets may differ to count as one picture; -1:
    none are removed.
    """
    shards: bool = True
    """Write WebDataset shards too, by `python -m uno_jax.data pack`."""
    licences: tuple[str, ...] = ()
    """Of the models used, for the datasheet: "MODEL: LICENCE"."""


@dataclass(frozen=True)
class RayConfig:
    address: str = ""
    """Of a cluster; empty: one is started here."""
    actors: int = 0
    """At most so many at a time; 0: one a GPU, or one a core where there is none."""
    object_store_mb: int = 0
    """Of a cluster started here; 0: as Ray chooses."""
    logs: bool = False
    """Show what the actors print."""


@dataclass(frozen=True)
class SynthConfig:
    """One run; the defaults are the paper's, as far as they are published."""

    engine: Literal["in-process", "ray"] = "in-process"
    device: str = "auto"
    """Of torch, such as cuda:1; auto: an accelerator when there is one."""
    llm: ModelConfig = ModelConfig()
    taxonomy: TaxonomyConfig = TaxonomyConfig()
    subjects: SubjectsConfig = SubjectsConfig()
    scenes: ScenesConfig = ScenesConfig()
    diptychs: DiptychsConfig = DiptychsConfig()
    generate: GenerateConfig = GenerateConfig()
    split: SplitConfig = SplitConfig()
    filter_dino: FilterDinoConfig = FilterDinoConfig()
    filter_vlm: FilterVlmConfig = field(default_factory=FilterVlmConfig)
    detect: DetectConfig = DetectConfig()
    second_reference: SecondReferenceConfig = SecondReferenceConfig()
    export: ExportConfig = ExportConfig()
    ray: RayConfig = RayConfig()


def load_config(name: str) -> SynthConfig:
    """What get_config() of the file, or of the preset of that name, returns. Raises SynthesisError."""
    path = Path(name)
    presets = sorted(file.stem for file in PRESETS.glob("[!_]*.py"))
    if name in presets:
        return importlib.import_module(f".presets.{name}", __package__).get_config()
    if not path.is_file():
        raise SynthesisError(f"no configuration {path}: expected a file, or one of {', '.join(presets)}")
    get_config = runpy.run_path(str(path)).get("get_config")
    config = get_config() if callable(get_config) else None
    if not isinstance(config, SynthConfig):
        raise SynthesisError(f"{path} must define get_config() that returns a SynthConfig")
    return config


def from_json(values: Any, path: Path) -> SynthConfig:
    """Settings as `config.json` has them. Raises SynthesisError."""
    try:
        return TypeAdapter(SynthConfig).validate_python(values)
    except ValidationError as error:
        raise SynthesisError(f"{path} holds no settings of this program: {error}") from None


def changes(old: SynthConfig | None, new: SynthConfig) -> Iterator[str]:
    """ "split.min_probability 0.5 -> 0.7" for every field that differs."""
    before = dict(flat(dataclasses.asdict(old))) if old else {}
    for name, value in flat(dataclasses.asdict(new)):
        if old and json.dumps(before.get(name)) != json.dumps(value):
            yield f"{name} {before.get(name)} -> {value}"


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
