"""UNO stage II on the small model: stage I's settings on two references of 80 pixels, from stage I's LoRA.

python -m uno_jax.toybox --out data/toybox/two --references 2 --count 20000 --size 128 --seed 31
python -m uno_jax.train --config configs/small_stage2.py
"""

import dataclasses

from uno_jax.recipe import TrainConfig, load_recipe


def get_config() -> TrainConfig:
    stage1 = load_recipe("configs/small_stage1.py")
    return dataclasses.replace(
        stage1,
        workdir="runs/small_stage2",
        init_lora="runs/small_stage1/lora",
        data=dataclasses.replace(stage1.data, path="data/toybox/two/pairs.json", ref_resolution=80),
    )
