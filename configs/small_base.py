"""The small base model, from scratch on toybox pictures and diptychs of 128 pixels that lie on disk.

An example of training a base with `uno-train`. The shipped one was trained by `uno-train-small`, whose
samples are made on the device (docs/toybox.md).

uno-toybox --out data/toybox/text_image --kind text-image --count 40000 --size 128 --seed 20
uno-toybox --out data/toybox/diptychs --kind diptychs --count 20000 --size 128 --seed 21
uno-encode --config configs/small_base.py --networks vae --out data/toybox/base_encodings
uno-train --config configs/small_base.py --data.encodings data/toybox/base_encodings
"""

from uno_jax.data.config import DataConfig, SourceConfig
from uno_jax.training.config import OptimConfig, TrainConfig


def get_config() -> TrainConfig:
    return TrainConfig(
        workdir="runs/small_base",
        weights="runs/small_vae/model",
        trainable=("mmdit/.*", "t5/(?!embedding).*", "clip/(?!token_embedding).*"),
        preset="small",
        data=DataConfig(
            sources=(
                SourceConfig("data/toybox/text_image/pairs.json", weight=0.7),
                SourceConfig("data/toybox/diptychs/pairs.json", weight=0.3, size=(128, 256)),
            ),
            resolution=128,
        ),
        optim=OptimConfig(learning_rate=1e-3, warmup_steps=300, decay_to=0.8, b2=0.98, ema_decay=0.999),
        batch_size=32,
        steps=5000,
        dtype="float32",
        remat="none",
        precision="bfloat16",
        unroll=8,
    )
