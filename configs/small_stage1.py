"""UNO stage I on the small model: one reference, toybox pairs of 128 pixels, LoRA of rank 64.

python -m uno_jax.toybox --out data/toybox/one --count 20000 --size 128 --seed 30
python -m uno_jax.train --config configs/small_stage1.py

To train from cached encodings of the pictures, with less work a step (as `uno_jax.encodings` tells):

python -m uno_jax.encodings --config configs/small_stage1.py --networks vae --out data/toybox/one_encodings
python -m uno_jax.train --config configs/small_stage1.py --data.encodings data/toybox/one_encodings
"""

from uno_jax.config import LoraConfig
from uno_jax.recipe import DataConfig, OptimConfig, TrainConfig


def get_config() -> TrainConfig:
    return TrainConfig(
        workdir="runs/small_stage1",
        weights="small",
        lora=LoraConfig(rank=64),
        data=DataConfig(path="data/toybox/one/pairs.json", resolution=128, ref_resolution=128),
        optim=OptimConfig(learning_rate=1e-3, warmup_steps=100, decay_to=0.05, ema_decay=0.999),
        batch_size=16,
        steps=4000,
        dtype="float32",
        precision="bfloat16",
        unroll=8,
        remat="none",
    )
