"""UNO's choice of pairs on the small model: stage I on synthesised pairs, by the lowest score that is taken.

UNO trains on 4 of 4. The lower the threshold, the more pairs, and the more of them of different subjects.
Whether the prompt's scene is drawn is scored too: a pair that shows one picture twice has a high score, but
teaches to copy. The last variant draws half of its samples from the toybox.

Its lists are made as small_stage1.py describes (docs/evaluation.md's table: --count 6000 and 4000). Then

uno-synthesize run --config small --run runs/small_pairs --diptychs.per-subject 4
uno-synthesize export --run runs/small_pairs --filter-vlm.threshold 0
uno-convert efficientnet --dst weights/scorer
uno-ablate --config configs/small_score_ablation.py --out runs/scores
"""

import dataclasses

from uno_jax.ablation.grid import Ablation, Score, Variant, load_ablation
from uno_jax.data.config import SourceConfig
from uno_jax.training.recipes import load_recipe

STEPS = 1000
THRESHOLDS = {"score 4": 4.0, "3 and more": 3.0, "any": 0.0}


def synthesised(least: float, weight: float = 1.0) -> SourceConfig:
    return SourceConfig("runs/small_pairs/export/single/train.json", weight, min_score=least)


def get_config() -> Ablation:
    evaluated = load_ablation("configs/small_ablation.py")
    stage1 = load_recipe("configs/small_stage1.py")
    mixtures: dict[str, tuple[SourceConfig, ...]] = {
        name: (synthesised(least),) for name, least in THRESHOLDS.items()
    }
    drawn = tuple(dataclasses.replace(source, weight=source.weight / 2) for source in stage1.data.sources)
    mixtures["score 4, half drawn"] = (synthesised(4.0, weight=0.5), *drawn)
    variants = []
    for name, sources in mixtures.items():
        data = dataclasses.replace(stage1.data, sources=sources)
        variants.append(Variant(name, (dataclasses.replace(stage1, data=data, steps=STEPS),)))
    path = ("efficientnet_lite0", "single", "model", "scene_accuracy")
    scene = Score(
        "one subject: scene", "toybox", path, percent=True, row=("model", "scene_right"), kind="single"
    )
    subject = tuple(score for score in evaluated.scores if score.kind == "single")
    return dataclasses.replace(evaluated, variants=tuple(variants), scores=(*subject, scene))
