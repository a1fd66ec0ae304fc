"""Stage II again on the small model, from stage II's LoRA, with the subjects weighing five times in the loss.

Its lists are those of configs/small_stage2.py with masks of the targets' subjects:

uno-toybox --out data/toybox/one --count 1800 --seed 30 --masks
uno-toybox --out data/toybox/one_place --alike place --count 1200 --seed 32 --masks
uno-toybox --out data/toybox/two --references 2 --count 1200 --seed 31 --masks
uno-toybox --out data/toybox/two_place --references 2 --alike place --count 1200 --seed 34 --masks
uno-encode --config configs/small_stage2_masked.py --networks vae --out data/toybox/masked_encodings
uno-train --config configs/small_stage2_masked.py --data.encodings data/toybox/masked_encodings
"""

import dataclasses

from uno_jax.data.config import with_weights
from uno_jax.training.config import TrainConfig
from uno_jax.training.recipes import load_recipe

WEIGHTS = (0.15, 0.1, 0.45, 0.3)  # of one, one_place, two and two_place


def get_config() -> TrainConfig:
    stage2 = load_recipe("configs/small_stage2.py")
    return dataclasses.replace(
        stage2,
        workdir="runs/small_stage2_masked",
        init_lora="runs/small_stage2/lora",
        optim=dataclasses.replace(stage2.optim, learning_rate=1e-3, warmup_steps=20, ema_decay=0.99),
        batch_size=8,
        steps=640,
        data=dataclasses.replace(with_weights(stage2.data, WEIGHTS), mask_weight=5.0),
    )
