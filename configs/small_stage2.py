"""UNO stage II on the small model: pairs of two references, and some of stage I's, from stage I's LoRA.

References keep stage I's 128 pixels, so that a subject in the same place covers the same tokens.

uno-toybox --out data/toybox/two --references 2 --count 4000 --seed 31
uno-toybox --out data/toybox/two_place --references 2 --alike place --count 4000 --seed 34
uno-encode --config configs/small_stage2.py --networks vae --out data/toybox/two_encodings
uno-train --config configs/small_stage2.py --data.encodings data/toybox/two_encodings
"""

import dataclasses

from uno_jax.data.config import SourceConfig
from uno_jax.training.config import TrainConfig
from uno_jax.training.recipes import load_recipe

WEIGHTS = {"one": 0.15, "one_place": 0.1, "two": 0.4, "two_place": 0.35}


def get_config() -> TrainConfig:
    stage1 = load_recipe("configs/small_stage1.py")
    sources = tuple(
        SourceConfig(f"data/toybox/{name}/pairs.json", weight) for name, weight in WEIGHTS.items()
    )
    return dataclasses.replace(
        stage1,
        workdir="runs/small_stage2",
        init_lora="runs/small_stage1/lora",
        data=dataclasses.replace(stage1.data, sources=sources),
    )
