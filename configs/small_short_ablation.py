"""Stage I of configs/small_ablation.py, short enough for two cores: 160 steps of 8, then 60 prompts.

Variants that differ in stage I, and beside them other ranks and numbers of steps. Six minutes a variant:

uno-toybox --out data/toybox/one --count 1800 --size 128 --seed 30
uno-toybox --out data/toybox/one_place --alike place --count 1200 --size 128 --seed 32
uno-encode --config configs/small_stage1.py --networks vae --out data/toybox/one_encodings
uno-convert efficientnet --dst weights/scorer
uno-ablate --config configs/small_short_ablation.py --out runs/short_ablation --seeds 0 1 2
"""

import dataclasses

from uno_jax.ablation.grid import Ablation, Score, Variant, load_ablation
from uno_jax.families.uno.config import LoraConfig
from uno_jax.training.config import TrainConfig

STEPS = 160
ELSEWHERE = "without stage I", "cropped reference"  # differ in stage II


def shortened(stage: TrainConfig) -> TrainConfig:
    optim = dataclasses.replace(stage.optim, learning_rate=1e-3, warmup_steps=15, ema_decay=0.98)
    return dataclasses.replace(stage, steps=STEPS, batch_size=8, optim=optim)


def get_config() -> Ablation:
    long = load_ablation("configs/small_ablation.py")
    top1, _, cosine, _ = long.scores
    variants = [
        Variant(
            each.name,
            (shortened(each.stages[0]),),
            paper={score: value for score, value in each.paper.items() if score == top1.name},
        )
        for each in long.variants
        if each.name not in ELSEWHERE
    ]
    stage = variants[0].stages[0]
    further = {
        "rank 4": dataclasses.replace(stage, lora=LoraConfig(rank=4)),
        f"{STEPS // 2} steps": dataclasses.replace(stage, steps=STEPS // 2),
        f"{2 * STEPS} steps": dataclasses.replace(stage, steps=2 * STEPS),
    }
    path = *top1.path[:-1], "scene_accuracy"
    scene = Score("one subject: scene", "toybox", path, True, row=("model", "scene_right"), kind="single")
    words = ("--suite", "toybox", "--kinds", "single", "--count", "60", "--no-baseline", "--batch-size", "12")
    return Ablation(
        model="small",
        variants=(*variants, *(Variant(name, (each,)) for name, each in further.items())),
        evaluations={"toybox": words},
        scores=(top1, cosine, scene),
    )
