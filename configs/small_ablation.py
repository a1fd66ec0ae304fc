"""UNO's position ablation on the small model and the toybox world: stages I and II, equally long for each.

The pairs of small_stage1.py and small_stage2.py and their encodings are made as those files tell; shorter
lists serve (the table in docs/evaluation.md: --count 6000 and 4000 of one reference, 3500 and 3500 of two).
Then

python -m tools.convert_weights efficientnet --dst weights/scorer
python -m uno_jax.ablate --config configs/small_ablation.py --out runs/ablation
"""

import dataclasses

from uno_jax.ablation import Ablation, Score, Variant
from uno_jax.config import UnoPE
from uno_jax.recipe import TrainConfig, load_recipe

STEPS = 1000
ENCODINGS = "data/toybox/one_encodings", "data/toybox/two_encodings"
POSITIONS = {
    "diagonal": UnoPE(),
    "none": UnoPE("o"),
    "width only": UnoPE("w"),
    "height only": UnoPE("h"),
    "diagonal, scale 2": UnoPE(offset_scale=2.0),
}
# DINO scores of the paper's Table 4: one subject, two subjects. It has no scale 2.
PAPER = {
    "diagonal": (0.730, 0.542),
    "none": (0.470, 0.386),
    "width only": (0.717, 0.508),
    "height only": (0.678, 0.501),
}
SINGLE, TWO = "one subject: top-1", "two subjects: both"


def encoded(path: str, encodings: str) -> TrainConfig:
    recipe = load_recipe(path)
    return dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, encodings=encodings))


def get_config() -> Ablation:
    stages = [encoded(f"configs/small_stage{number}.py", place) for number, place in enumerate(ENCODINGS, 1)]
    variants = tuple(
        Variant(
            name,
            tuple(dataclasses.replace(stage, unope=unope, steps=STEPS) for stage in stages),
            paper=dict(zip((SINGLE, TWO), PAPER.get(name, ()), strict=False)),
        )
        for name, unope in POSITIONS.items()
    )
    where = "efficientnet_lite0"
    return Ablation(
        model="small",
        variants=variants,
        evaluations={"toybox": ("--suite", "toybox", "--count", "120")},
        scores=(
            Score(SINGLE, "toybox", (where, "single", "model", "top1"), percent=True),
            Score(TWO, "toybox", (where, "two", "model", "top1"), percent=True),
            Score("one subject: cosine", "toybox", (where, "single", "model", "cosine")),
            Score("two subjects: cosine", "toybox", (where, "two", "model", "cosine")),
        ),
    )
