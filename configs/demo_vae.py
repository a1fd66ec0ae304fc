"""The demo's autoencoder, from scratch on a dozen pictures of 64 pixels (about two minutes on two cores).

python -m uno_jax.toybox --out out/demo/pairs --count 6 --size 64 --seed 1
python -m uno_jax.train --config configs/demo_vae.py
"""

from uno_jax.recipe import DataConfig, OptimConfig, TrainConfig


def get_config() -> TrainConfig:
    return TrainConfig(
        workdir="out/demo/vae",
        objective="autoencoder",
        trainable=("vae/.*",),
        preset="small",
        data=DataConfig(path="out/demo/pairs/pairs.json", resolution=64),
        optim=OptimConfig(learning_rate=4e-3, warmup_steps=20, decay_to=0.05, b2=0.95, weight_decay=0.0),
        batch_size=6,
        steps=600,
        dtype="float32",
        remat="none",
    )
