"""The small model's autoencoder, from scratch on toybox pictures.

uno-toybox --out data/toybox/text_image --kind text-image --count 60000 --size 64 --seed 10
uno-train --config configs/small_vae.py
"""

from uno_jax.data.config import DataConfig
from uno_jax.training.config import OptimConfig, TrainConfig


def get_config() -> TrainConfig:
    return TrainConfig(
        workdir="runs/small_vae",
        objective="autoencoder",
        trainable=("vae/.*",),
        preset="small",
        data=DataConfig(path="data/toybox/text_image/pairs.json", resolution=64),
        optim=OptimConfig(
            learning_rate=2e-3, warmup_steps=100, decay_to=0.02, b2=0.95, weight_decay=0.0, ema_decay=0.999
        ),
        batch_size=16,
        steps=4000,
        dtype="float32",
        remat="none",
    )
