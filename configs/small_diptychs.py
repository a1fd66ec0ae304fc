"""The second part of the small base's training: a half of most diptychs is given, the other to be completed.

Two noisy halves say little about each other's subject; a half without noise shows it, as a reference does.

uno-train --config configs/small_diptychs.py --data.encodings data/toybox/base_encodings
"""

import dataclasses

from uno_jax.training.config import TrainConfig
from uno_jax.training.recipes import load_recipe


def get_config() -> TrainConfig:
    base = load_recipe("configs/small_base.py")
    return dataclasses.replace(
        base,
        workdir="runs/small_diptychs",
        weights="runs/small_base/model",
        optim=dataclasses.replace(base.optim, warmup_steps=100, decay_to=0.02),
        completion=0.6,
        batch_size=16,
        steps=9000,
    )
