"""UNO at 1024 pixels: stage II's settings with buckets of 1024 and references of 512.

uno-train --config configs/uno_1024.py --data.path DATA/pairs.json
"""

import dataclasses

from uno_jax.training.config import TrainConfig
from uno_jax.training.recipes import load_recipe


def get_config() -> TrainConfig:
    stage2 = load_recipe("configs/uno_stage2.py")
    return dataclasses.replace(
        stage2,
        workdir="runs/uno_1024",
        init_lora="runs/uno_stage2/lora",
        data=dataclasses.replace(stage2.data, resolution=1024, ref_resolution=512),
    )
