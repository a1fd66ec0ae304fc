"""The third part of the small base's training: halves of diptychs share more than their subject.

A model soon learns to copy a whole picture, then a subject from its place in the other half. Without such
samples the second part transferred colours and no shapes. The run that went into the small model took 1,105
steps with a learning rate of 1e-3, then 1,257 of 3,000 with 2.5e-3, at which copying was learned much faster.

uno-toybox --out data/toybox/place --kind diptychs --alike place --count 16000 --seed 22
uno-toybox --out data/toybox/twice --kind diptychs --alike picture --count 4000 --seed 23
uno-encode --config configs/small_alike.py --networks vae --out data/toybox/alike_encodings
uno-train --config configs/small_alike.py --data.encodings data/toybox/alike_encodings
"""

import dataclasses

from uno_jax.data.config import SourceConfig
from uno_jax.training.config import TrainConfig
from uno_jax.training.recipes import load_recipe


def get_config() -> TrainConfig:
    diptychs = load_recipe("configs/small_diptychs.py")
    weights = {"text_image": 0.1, "diptychs": 0.2, "place": 0.4, "twice": 0.3}
    sources = tuple(
        SourceConfig(
            f"data/toybox/{name}/pairs.json", weight, size=None if name == "text_image" else (128, 256)
        )
        for name, weight in weights.items()
    )
    return dataclasses.replace(
        diptychs,
        workdir="runs/small_alike",
        weights="runs/small_diptychs/model",
        data=dataclasses.replace(diptychs.data, sources=sources),
        optim=dataclasses.replace(
            diptychs.optim, learning_rate=2.5e-3, warmup_steps=30, decay_to=0.6, ema_decay=0.0
        ),
        steps=2000,
    )
