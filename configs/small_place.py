"""The fourth part of the small base's training: fewer pictures shown twice, more subjects in the same place.

uno-train --config configs/small_place.py --data.encodings data/toybox/alike_encodings
"""

import dataclasses

from uno_jax.data.config import with_weights
from uno_jax.training.config import TrainConfig
from uno_jax.training.recipes import load_recipe


def get_config() -> TrainConfig:
    alike = load_recipe("configs/small_alike.py")
    return dataclasses.replace(
        alike,
        workdir="runs/small_place",
        weights="runs/small_alike/model",
        data=with_weights(alike.data, (0.15, 0.2, 0.55, 0.1)),
        optim=dataclasses.replace(alike.optim, learning_rate=1.5e-3, decay_to=0.01, ema_decay=0.998),
        steps=1800,
    )
