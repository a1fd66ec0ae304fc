"""The longer part of the small stage II: as much of one reference as of two, from its first LoRA.

uno-train --config configs/small_stage2_long.py --data.encodings data/toybox/two_encodings
"""

import dataclasses

from uno_jax.data.config import with_weights
from uno_jax.training.config import TrainConfig
from uno_jax.training.recipes import load_recipe


def get_config() -> TrainConfig:
    stage2 = load_recipe("configs/small_stage2.py")
    return dataclasses.replace(
        stage2,
        workdir="runs/small_stage2_long",
        init_lora="runs/small_stage2/lora",
        data=with_weights(stage2.data, (0.25, 0.2, 0.3, 0.25)),
        optim=dataclasses.replace(stage2.optim, learning_rate=2.5e-3, warmup_steps=30),
        steps=3400,
    )
