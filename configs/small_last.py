"""The last part of the small base's training: mostly scenes again, a learning rate that falls to nothing.

uno-train --config configs/small_last.py --data.encodings data/toybox/alike_encodings
"""

import dataclasses

from uno_jax.data.config import with_weights
from uno_jax.training.config import TrainConfig
from uno_jax.training.recipes import load_recipe


def get_config() -> TrainConfig:
    place = load_recipe("configs/small_place.py")
    return dataclasses.replace(
        place,
        workdir="runs/small_last",
        weights="runs/small_place/model",
        data=with_weights(place.data, (0.6, 0.1, 0.29, 0.01)),
        optim=dataclasses.replace(place.optim, decay_to=0.0),
        steps=3000,
    )
