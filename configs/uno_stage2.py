"""UNO stage II: stage I's settings on several references of 320 pixels, from stage I's LoRA.

uno-train --config configs/uno_stage2.py --data.path DATA/pairs.json

The optimizer starts fresh; to continue with stage I's: --init-lora "" --init-run runs/uno_stage1
"""

import dataclasses

from uno_jax.training.config import TrainConfig
from uno_jax.training.recipes import load_recipe


def get_config() -> TrainConfig:
    stage1 = load_recipe("configs/uno_stage1.py")
    return dataclasses.replace(
        stage1,
        workdir="runs/uno_stage2",
        init_lora="runs/uno_stage1/lora",
        data=dataclasses.replace(stage1.data, path="data/stage2/pairs.json", ref_resolution=320),
    )
