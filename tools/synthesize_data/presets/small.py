"""Pairs of toy subjects from the small model that comes with uno_jax: no downloads, two cores.

uno-synthesize run --config small --run runs/small_pairs

Each model has a stand-in. The toybox's training subjects and scenes replace the taxonomy and the LLM's
subjects and scenes. The small base model replaces FLUX.1-dev; it knows no subject by name, so the toy world
draws the left panel and the model completes the right one. EfficientNet-Lite0, which has seen neither this
project nor its data, replaces DINOv2, and its features compared part by part the VLM. A search for the
subject's drawing replaces the open-vocabulary detector. All of them look at pictures only, not at how these
were made.
"""

from ..config import (
    DetectConfig,
    DiptychsConfig,
    ExportConfig,
    FilterDinoConfig,
    FilterVlmConfig,
    GenerateConfig,
    ScenesConfig,
    SecondReferenceConfig,
    SubjectsConfig,
    SynthConfig,
    TaxonomyConfig,
)

SCENES = (
    *("on the grass", "in a flower field", "on a beach", "in the snow", "in the desert", "in a forest"),
    *("on a city street", "at sunset", "under a night sky", "in the sky among clouds", "in outer space"),
    *("on the water", "under water", "in front of a brick wall", "on autumn leaves", "on pebbles"),
    *("on glowing lava", "on a patterned carpet", "on a wooden table", "on a checkered floor"),
    *("in front of a bookshelf", "by a rainy window", "on a stage with a red curtain", "in a plain studio"),
)
BATCHES = ("--batch-size", "16")
SAME = "two side-by-side images of the same {subject}: left {scene_1}, right "


def get_config() -> SynthConfig:
    return SynthConfig(
        taxonomy=TaxonomyConfig(path="toybox"),
        subjects=SubjectsConfig(
            backend="template", manners=("realistic",), per_manner=1, templates=("{category}",)
        ),
        scenes=ScenesConfig(backend="template", per_subject=8, plain=0.0, scenes=SCENES),
        diptychs=DiptychsConfig(
            per_subject=2,
            layouts=("left-right",),
            panels=((128, 128),),
            prompts=(SAME + "{scene_2}",),
            prompts_two=(SAME + "with {a_other} {scene_2}",),
        ),
        generate=GenerateConfig(
            backend="uno_jax",
            model="small",
            guidance=1.0,
            arguments=("--lora", "none", *BATCHES),
            left="toybox",
            batch_size=256,
        ),
        filter_dino=FilterDinoConfig(backend="efficientnet-lite0", threshold=0.4, max_border=0.65),
        filter_vlm=FilterVlmConfig(backend="features", threshold=3.0),
        detect=DetectConfig(backend="catalog", catalog="toybox", threshold=0.35),
        second_reference=SecondReferenceConfig(
            model="small", lora="", size=(128, 128), guidance=1.0, arguments=BATCHES, batch_size=256
        ),
        export=ExportConfig(licences=("uno_jax small: Apache-2.0", "EfficientNet-Lite0: Apache-2.0")),
    )
