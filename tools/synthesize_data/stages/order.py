"""All stages by name, and the order in which `run` takes them."""

from ..pipeline.stage import Stage
from . import (
    detect,
    diptychs,
    filter_dino,
    filter_vlm,
    generate,
    perceptual_hashes,
    scenes,
    second_reference,
    split,
    subjects,
    taxonomy,
)

STAGES: dict[str, Stage] = {
    module.STAGE.name: module.STAGE
    for module in (
        taxonomy,
        subjects,
        scenes,
        diptychs,
        generate,
        split,
        filter_dino,
        filter_vlm,
        detect,
        second_reference,
        perceptual_hashes,
    )
}
SINGLE = ("taxonomy", "subjects", "scenes", "diptychs", "generate", "split", "filter-dino", "filter-vlm")
TWO = ("detect", "second-reference", "filter-dino", "filter-vlm")
IMPORTED = ("filter-dino", "filter-vlm", "export")
ORDER = (*SINGLE, "export", *TWO, "export")
