"""UNO's choice of pairs on the small model: stage I on synthesised pairs, by the least score that they need.

UNO trains on 4 of 4. The lower the threshold, the more pairs, and the more of them of different subjects.
Whether the prompt's scene is drawn counts too: a pair that shows one picture twice is scored high, and
teaches to copy.

python -m tools.synthesize_data run --config small --run runs/small_pairs --diptychs.per-subject 4
python -m tools.synthesize_data export --run runs/small_pairs --filter-vlm.threshold 0
python -m tools.convert_weights efficientnet --dst weights/scorer
python -m uno_jax.ablate --config configs/small_score_ablation.py --out runs/scores
"""

import dataclasses

from uno_jax.ablation import Ablation, Score, Variant, load_ablation
from uno_jax.recipe import SourceConfig, load_recipe

STEPS = 1000
THRESHOLDS = {"score 4": 4.0, "3 and more": 3.0, "any": 0.0}


def get_config() -> Ablation:
    evaluated = load_ablation("configs/small_ablation.py")
    stage1 = load_recipe("configs/small_stage1.py")
    variants = []
    for name, threshold in THRESHOLDS.items():
        pairs = SourceConfig("runs/small_pairs/export/single/train.json", min_score=threshold)
        data = dataclasses.replace(stage1.data, sources=(pairs,))
        variants.append(Variant(name, (dataclasses.replace(stage1, data=data, steps=STEPS),)))
    path = ("efficientnet_lite0", "single", "model", "scene_accuracy")
    scene = Score(
        "one subject: scene", "toybox", path, percent=True, row=("model", "scene_right"), kind="single"
    )
    subject = tuple(score for score in evaluated.scores if score.kind == "single")
    return dataclasses.replace(evaluated, variants=tuple(variants), scores=(*subject, scene))
