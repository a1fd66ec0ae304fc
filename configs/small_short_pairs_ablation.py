"""Stage II after the stage I of configs/small_short_ablation.py: 120 steps of 8, then 60 prompts with two
subjects.

Variants of positions, no stage I, second references that are cut out of the targets, references as small as
their subjects are in the targets, and up to four references. Ten minutes a variant; with the --out of the
other ablation its LoRAs of stage I are used again. Its lists, and then

uno-toybox --out data/toybox/two --references 2 --count 1200 --seed 31
uno-toybox --out data/toybox/two_place --references 2 --alike place --count 1200 --seed 34
uno-encode --config configs/small_stage2.py --networks vae --out data/toybox/two_encodings
uno-toybox --out data/toybox/two_cropped --references 2 --crop-second --count 1200 --seed 31
uno-toybox --out data/toybox/two_place_cropped --references 2 --crop-second --alike place \
    --count 1200 --seed 34
uno-toybox --out data/toybox/three --references 3 --count 800 --seed 35
uno-toybox --out data/toybox/four --references 4 --count 800 --seed 36
uno-ablate --config configs/small_short_pairs_ablation.py --out runs/short_ablation --seeds 0 1 2
"""

import dataclasses

from uno_jax.ablation.grid import Ablation, Score, Variant, load_ablation
from uno_jax.data.config import SourceConfig
from uno_jax.training.config import TrainConfig

STEPS = 120
POSITIONS = "diagonal", "none", "width only", "height only", "diagonal, scale 2"
MANY = {"one": 0.2, "two": 0.3, "three": 0.25, "four": 0.25}
REFERENCES = 96


def shortened(stage: TrainConfig, stage1: TrainConfig) -> TrainConfig:
    return dataclasses.replace(stage, steps=STEPS, batch_size=stage1.batch_size, optim=stage1.optim)


def from_pictures(stage: TrainConfig, **data) -> TrainConfig:
    return dataclasses.replace(stage, data=dataclasses.replace(stage.data, encodings="", **data))


def score(name: str, key: str, row: str, percent: bool) -> Score:
    path = "efficientnet_lite0", "two", "model", key
    return Score(f"two subjects: {name}", "toybox", path, percent, row=("model", row), kind="two")


def get_config() -> Ablation:
    long = {each.name: each for each in load_ablation("configs/small_ablation.py").variants}
    first = {each.name: each.stages[0] for each in load_ablation("configs/small_short_ablation.py").variants}
    stage1 = first["diagonal"]
    stage2, cropped = (shortened(long[name].stages[1], stage1) for name in ("diagonal", "cropped reference"))
    many = tuple(SourceConfig(f"data/toybox/{name}/pairs.json", weight) for name, weight in MANY.items())
    trained = {name: (first[name], shortened(long[name].stages[1], stage1)) for name in POSITIONS} | {
        "without stage I": (dataclasses.replace(stage2, init_lora="", steps=stage1.steps + STEPS),),
        "cropped reference": (stage1, cropped),
        "small references": (stage1, from_pictures(stage2, ref_resolution=REFERENCES)),
        "one to four references": (stage1, from_pictures(stage2, sources=many)),
    }
    both = score("both", "top1", "top1", percent=True)
    paper = {
        name: {both.name: each.paper[both.name]} for name, each in long.items() if both.name in each.paper
    }
    variants = [
        Variant(
            name,
            stages,
            evaluate=("--ref-size", str(REFERENCES)) if name == "small references" else (),
            paper=paper.get(name, {}),
        )
        for name, stages in trained.items()
    ]
    words = ("--suite", "toybox", "--kinds", "two", "--count", "60", "--no-baseline", "--batch-size", "12")
    return Ablation(
        model="small",
        variants=tuple(variants),
        evaluations={"toybox": words},
        scores=(
            both,
            score("cosine", "cosine", "cosine", percent=False),
            score("scene", "scene_accuracy", "scene_right", percent=True),
        ),
    )
