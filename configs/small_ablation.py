"""UNO's ablations on the small model and the toybox world: positions, no stage I, another LoRA rank, second
references that are cut out of the targets; and references that see references only (`UnoPE.reference_cache`).

Every stage is equally long; without stage I, stage II has the steps of both.

The pairs of small_stage1.py and small_stage2.py and their encodings are made as those files describe; shorter
lists suffice (the table in docs/evaluation.md: --count 6000 and 4000 of one reference, 3500 and 3500 of two).
Cropped ones have the seeds of the others. Then

uno-toybox --out data/toybox/two_cropped --references 2 --crop-second --count 3500 --seed 31
uno-toybox --out data/toybox/two_place_cropped --references 2 --crop-second --alike place \
    --count 3500 --seed 34
uno-convert efficientnet --dst weights/scorer
uno-ablate --config configs/small_ablation.py --out runs/ablation
"""

import dataclasses

from uno_jax.ablation.grid import Ablation, Score, Variant
from uno_jax.families.uno.config import LoraConfig, UnoPE
from uno_jax.training.config import TrainConfig
from uno_jax.training.recipes import load_recipe

STEPS = 1000
ENCODINGS = "data/toybox/one_encodings", "data/toybox/two_encodings"
POSITIONS = {
    "diagonal": UnoPE(),
    "none": UnoPE("o"),
    "width only": UnoPE("w"),
    "height only": UnoPE("h"),
    "diagonal, scale 0.5": UnoPE(offset_scale=0.5),
    "diagonal, scale 2": UnoPE(offset_scale=2.0),
    "diagonal, scale 3": UnoPE(offset_scale=3.0),
    "reference cache": UnoPE(reference_cache=True),
}
SINGLE, TWO = "one subject: top-1", "two subjects: both"
# The paper's DINO scores of these variants, where it has them.
PAPER = {
    "diagonal": {SINGLE: 0.730, TWO: 0.542},
    "none": {SINGLE: 0.470, TWO: 0.386},
    "width only": {SINGLE: 0.717, TWO: 0.508},
    "height only": {SINGLE: 0.678, TWO: 0.501},
    "without stage I": {TWO: 0.511},
    "cropped reference": {TWO: 0.529},
}


def encoded(path: str, encodings: str) -> TrainConfig:
    recipe = load_recipe(path)
    return dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, encodings=encodings))


def cropped(stage: TrainConfig) -> TrainConfig:
    """The stage on cropped lists, from pictures: the encodings are those of the uncropped lists."""
    sources = tuple(
        dataclasses.replace(source, path=source.path.replace("/pairs", "_cropped/pairs"))
        if "two" in source.path
        else source
        for source in stage.data.sources
    )
    return dataclasses.replace(stage, data=dataclasses.replace(stage.data, sources=sources, encodings=""))


def score(name: str, kind: str, key: str, percent: bool = False) -> Score:
    path = ("efficientnet_lite0", kind, "model", key)
    return Score(name, "toybox", path, percent, row=("model", key), kind=kind)


def get_config() -> Ablation:
    stages = [encoded(f"configs/small_stage{number}.py", place) for number, place in enumerate(ENCODINGS, 1)]
    stage1, stage2 = (dataclasses.replace(stage, steps=STEPS) for stage in stages)
    trained = {
        name: tuple(dataclasses.replace(stage, unope=unope) for stage in (stage1, stage2))
        for name, unope in POSITIONS.items()
    }
    trained["without stage I"] = (dataclasses.replace(stage2, init_lora="", steps=2 * STEPS),)
    trained["rank 16"] = tuple(
        dataclasses.replace(stage, lora=LoraConfig(rank=16)) for stage in (stage1, stage2)
    )
    trained["cropped reference"] = (stage1, cropped(stage2))
    variants = tuple(Variant(name, recipes, paper=PAPER.get(name, {})) for name, recipes in trained.items())
    return Ablation(
        model="small",
        variants=variants,
        evaluations={"toybox": ("--suite", "toybox", "--count", "120")},
        scores=(
            score(SINGLE, "single", "top1", percent=True),
            score(TWO, "two", "top1", percent=True),
            score("one subject: cosine", "single", "cosine"),
            score("two subjects: cosine", "two", "cosine"),
        ),
    )
