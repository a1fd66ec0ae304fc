"""Settings of every stage.

Fields made by `not_in_id` can change without any row being made again; the others are part of rows' ids.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from uno_jax.support.bounds import BatchSize, Bounds, Count, Seed, Share, Side, Steps, Strength

from ..common.manifest import not_in_id
from ..language_models.config import ModelConfig

Manner = Literal["imaginative", "realistic", "with text"]
Cosine = Annotated[float, Bounds(-1, 1)]
Layout = Literal["left-right", "top-bottom"]


@dataclass(frozen=True)
class TaxonomyConfig:
    path: str = not_in_id("")
    """JSON file {"group": ["category", ...]}. "toybox": the toy world's training subjects. Empty: the 365
    classes of Objects365.
    """
    groups: tuple[str, ...] = not_in_id(())
    """Groups to use; empty: all."""


@dataclass(frozen=True)
class SubjectsConfig:
    """The paper's appendix F: 50 per category in each of three manners, at most 12 words each."""

    backend: Literal["model", "template"] = "model"
    """Where subjects come from: the language model `llm`, or templates."""
    manners: tuple[Manner, ...] = ("imaginative", "realistic", "with text")
    """Kinds of subjects to make of each category."""
    per_manner: Count = 50
    """Subjects per category and manner."""
    max_words: Count = 12
    """Longest subject."""
    templates: tuple[str, ...] = ()
    """Templates of the template backend, such as "{colour} {category}"; the word lists are in
    data/subjects.json. Empty: the built-in ones.
    """
    batch_size: BatchSize = not_in_id(64)
    """Categories per batch."""


@dataclass(frozen=True)
class ScenesConfig:
    """The paper's appendix F: eight one-line scenes per subject, at most 77 CLIP tokens each."""

    backend: Literal["model", "template"] = "model"
    """Where scenes come from: the language model `llm`, or lists."""
    per_subject: Count = 8
    """Scenes per subject."""
    max_tokens: Annotated[int, Bounds(3, 1_000_000)] = 77
    """Longest scene, in CLIP tokens."""
    plain: Share = 0.1
    """Share of the subjects that are shown on plain studio backgrounds."""
    scenes: tuple[str, ...] = ()
    """Scenes of the template backend, such as "on a pier at dawn"; empty: the built-in ones."""
    plain_scenes: tuple[str, ...] = ()
    """Plain backgrounds of the template backend; empty: the built-in ones."""
    batch_size: BatchSize = not_in_id(64)
    """Subjects per batch."""


@dataclass(frozen=True)
class DiptychsConfig:
    per_subject: Count = 4
    """Diptychs per subject, each of two of its scenes."""
    two: Share = 0.5
    """Share of the diptychs whose second panel also shows another subject."""
    layouts: tuple[Layout, ...] = ("left-right", "top-bottom")
    """Arrangements of the two panels to choose from."""
    panels: tuple[tuple[Side, Side], ...] = ((1024, 1024), (1024, 768), (768, 1024))
    """Panel sizes (width, height) to choose from; a picture consists of two panels."""
    prompts: tuple[str, ...] = ()
    """Prompt templates with {subject}, {a_subject} (with its article), {scene_1}, {scene_2}, {first} and
    {second} (left and right, or top and bottom), {arrangement} ("side by side"); empty: the built-in ones.
    """
    prompts_two: tuple[str, ...] = ()
    """Prompt templates for two subjects, with {other} and {a_other} as well."""
    caption: str = "{a_subject} {scene}"
    """Template of one panel's caption, which becomes a sample's prompt."""
    caption_two: str = "{a_subject} and {a_other} {scene}"
    """Template of the caption of a panel with two subjects."""
    seed: Seed = 0
    """Seed of all choices."""


@dataclass(frozen=True)
class GenerateConfig:
    backend: Literal["diffusers", "uno_jax"] = "diffusers"
    """Any text-to-image pipeline of diffusers, or `uno-sample --jobs`."""
    model: str = "black-forest-labs/FLUX.1-dev"
    """Name on the hub or directory of the model."""
    steps: Steps = 28
    """Sampling steps."""
    guidance: Strength = 3.5
    """Guidance scale."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Data type of a diffusers pipeline."""
    arguments: tuple[str, ...] = ()
    """Additional arguments of `uno_jax.sample`, such as ("--batch-size", "16")."""
    left: Literal["", "toybox"] = ""
    """For uno_jax: draw the left panel (toybox: the toy world's picture of the subject in its first scene)
    and generate the right one (diptych prompting). Empty: generate both.
    """
    second: Literal["completed", "referenced"] = "completed"
    """How the second panel is made: in one picture with the first, or, for uno_jax, by itself with the first
    one as its reference, as a model that was trained on such pairs can. Then another subject in it has a
    picture of its own as a second reference.
    """
    lora: str = ""
    """LoRA directory of the model that draws referenced panels, which must be uno_jax's."""
    batch_size: BatchSize = not_in_id(4)
    """Pictures per batch; for uno_jax, pictures per start of the program."""


@dataclass(frozen=True)
class SplitConfig:
    search: tuple[Share, Share] = (0.35, 0.65)
    """Range in which to look for the seam, as shares of the width or height."""
    min_probability: Share = not_in_id(0.5)
    """Lowest probability of a seam; the default is even odds."""
    batch_size: BatchSize = not_in_id(64)
    """Pictures per batch."""


@dataclass(frozen=True)
class FilterDinoConfig:
    """Cosine of two pictures' features; the paper's model size and threshold are not published."""

    backend: Literal["dinov2", "efficientnet-lite0"] = "dinov2"
    """Network that computes the features."""
    model: str = "facebook/dinov2-large"
    """Name on the hub or directory of the DINOv2 model."""
    threshold: Cosine = not_in_id(0.6)
    """Lowest cosine; below it the pictures show different subjects."""
    max_cosine: Cosine = not_in_id(0.99)
    """Highest cosine; above it the second picture is a copy of the first."""
    max_border: Cosine = not_in_id(1.0)
    """Highest cosine of the two pictures' borders, the outermost cells of the network's map, the first
    picture as sharp as the second; above it the second has the first one's background. The default takes
    all: it was not measured for DINOv2.
    """
    batch_size: BatchSize = not_in_id(32)
    """Pairs per batch."""


@dataclass(frozen=True)
class FilterVlmConfig:
    """Parts named, compared and scored 0 to 4 by a vision-language model; the paper trains on a mean of 4."""

    backend: Literal["model", "features"] = "model"
    """A vision-language model, or a comparison of EfficientNet-Lite0's features."""
    model: ModelConfig = ModelConfig(temperature=0.0)
    threshold: Annotated[float, Bounds(0, 4)] = not_in_id(4.0)
    """Lowest mean score."""
    batch_size: BatchSize = not_in_id(16)
    """Pairs per batch."""


@dataclass(frozen=True)
class DetectConfig:
    """Where the second subject is in the target."""

    backend: Literal["grounding-dino", "owlv2", "catalog"] = "grounding-dino"
    """A detector of transformers, or a search by the subject's picture in a catalogue."""
    model: str = "IDEA-Research/grounding-dino-base"
    """Name on the hub or directory of the detector."""
    catalog: str = ""
    """For "catalog": a folder of pictures named in its manifest.json, to search by picture instead of by
    words; "toybox": the subjects of uno_jax.
    """
    threshold: Cosine = not_in_id(0.35)
    """Lowest score of a box: the detector's own, or the catalogue's cosine (see benchmarks/judge.py)."""
    min_area: Share = not_in_id(0.02)
    """Smallest share of the picture that a box may cover."""
    max_area: Share = not_in_id(0.6)
    """Largest share of the picture that a box may cover."""
    max_aspect: Annotated[float, Bounds(1, 1_000)] = not_in_id(4.0)
    """Largest ratio of a box's longer to its shorter side."""
    margin: Annotated[float, Bounds(0, 10)] = 0.05
    """Margin added around a box before it is cut out, as a share of its sides."""
    batch_size: BatchSize = not_in_id(16)
    """Pictures per batch."""


@dataclass(frozen=True)
class SecondReferenceConfig:
    """The stage I model draws the second subject again in another scene, from its crop."""

    crop_as_reference: bool = False
    """Use the crop itself as the reference: the paper's ablation, which teaches copying."""
    model: str = "weights/flux-dev"
    """Model directory."""
    lora: str = "weights/uno-stage1"
    """LoRA directory; empty: the model's own."""
    prompt: str = "{subject}, {scene}"
    """Prompt template with {subject}, {a_subject} (with its article) and {scene}, one of the run's scenes."""
    size: tuple[Side, Side] = (512, 512)
    """Width and height in pixels."""
    steps: Steps = 25
    """Sampling steps."""
    guidance: Strength = 4.0
    """Guidance scale."""
    arguments: tuple[str, ...] = ()
    """Additional arguments of `uno_jax.sample`."""
    seed: Seed = 0
    """Seed of all choices."""
    batch_size: BatchSize = not_in_id(64)
    """Pictures per start of `uno_jax.sample`."""


@dataclass(frozen=True)
class ExportConfig:
    val_share: Share = 0.02
    """Share of the subjects that are held out: all their pairs go to the validation lists."""
    duplicate_distance: Annotated[int, Bounds(-1, 64)] = 4
    """Number of bits (of 64) in which the perceptual hashes of two targets may differ to count as duplicates;
    -1: keep duplicates.
    """
    shards: bool = True
    """Also write WebDataset shards, with `uno-data pack`."""
    licences: tuple[str, ...] = ()
    """Licences of the models used, for the datasheet: "MODEL: LICENCE"."""


@dataclass(frozen=True)
class RayConfig:
    address: str = ""
    """Address of a cluster; empty: start one on this machine."""
    actors: Annotated[int, Bounds(0, 1_000_000)] = 0
    """Largest number of actors; 0: one per GPU, or one per core where there is no GPU."""
    object_store_mb: Annotated[int, Bounds(0, 1_000_000_000)] = 0
    """Object store of a cluster started here, in MB; 0: Ray's default."""
    logs: bool = False
    """Show what the actors print."""


@dataclass(frozen=True)
class SynthConfig:
    """One run; the defaults are the paper's, as far as they are published."""

    engine: Literal["in-process", "ray"] = "in-process"
    """Where workers run: in this process, or as actors of Ray."""
    device: str = "auto"
    """torch device, such as cuda:1; auto: an accelerator if there is one."""
    limit: Annotated[int, Bounds(0, 1_000_000_000)] = not_in_id(0)
    """A trial: at most so many categories, subjects with scenes, and diptychs, of those that a whole run has.
    0: no limit. What a trial made is kept when the limit is raised.
    """
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
