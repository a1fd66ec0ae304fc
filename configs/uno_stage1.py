"""UNO stage I with the paper's settings: one reference, FLUX.1-dev, LoRA of rank 512, batch 16, 5000 steps.

uno-train --config configs/uno_stage1.py --data.path DATA/pairs.json
"""

from uno_jax.data.config import DataConfig
from uno_jax.training.config import TrainConfig


def get_config() -> TrainConfig:
    return TrainConfig(
        workdir="runs/uno_stage1",
        weights="weights/flux-dev",
        data=DataConfig(path="data/stage1/pairs.json", resolution=512, ref_resolution=512),
    )
