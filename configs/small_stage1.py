"""UNO stage I on the small model: one reference, toybox pairs of 128 pixels, LoRA of rank 64.

In some of the pairs the subject has the same place in the reference as in the target: what is learned quickly
from these helps where the subject has moved.

uno-toybox --out data/toybox/one --count 20000 --size 128 --seed 30
uno-toybox --out data/toybox/one_place --alike place --count 8000 --size 128 --seed 32
uno-train --config configs/small_stage1.py

To train from cached encodings of the pictures, with less work in each step:

uno-encode --config configs/small_stage1.py --networks vae --out data/toybox/one_encodings
uno-train --config configs/small_stage1.py --data.encodings data/toybox/one_encodings
"""

from uno_jax.data.config import DataConfig, SourceConfig
from uno_jax.families.uno.config import LoraConfig
from uno_jax.training.config import OptimConfig, TrainConfig

WEIGHTS = {"one": 0.6, "one_place": 0.4}


def get_config() -> TrainConfig:
    sources = tuple(
        SourceConfig(f"data/toybox/{name}/pairs.json", weight=weight) for name, weight in WEIGHTS.items()
    )
    return TrainConfig(
        workdir="runs/small_stage1",
        weights="small",
        lora=LoraConfig(rank=64),
        data=DataConfig(sources=sources, resolution=128, ref_resolution=128),
        optim=OptimConfig(learning_rate=2e-3, warmup_steps=50, decay_to=0.02, ema_decay=0.998),
        batch_size=16,
        steps=1200,
        dtype="float32",
        precision="bfloat16",
        unroll=8,
        remat="none",
    )
