"""Stage II with three and four references beside one and two, on the small model, from stage II's LoRA.

Its lists are those of configs/small_stage2.py, and

uno-toybox --out data/toybox/three --references 3 --count 800 --seed 35
uno-toybox --out data/toybox/four --references 4 --count 800 --seed 36
uno-encode --config configs/small_stage2_many.py --networks vae --out data/toybox/encodings
uno-train --config configs/small_stage2_many.py --data.encodings data/toybox/encodings
"""

import dataclasses

from uno_jax.data.config import SourceConfig
from uno_jax.training.config import TrainConfig
from uno_jax.training.recipes import load_recipe

WEIGHTS = {"one": 0.1, "one_place": 0.1, "two": 0.2, "two_place": 0.25, "three": 0.2, "four": 0.15}


def get_config() -> TrainConfig:
    stage2 = load_recipe("configs/small_stage2.py")
    sources = tuple(
        SourceConfig(f"data/toybox/{name}/pairs.json", weight) for name, weight in WEIGHTS.items()
    )
    return dataclasses.replace(
        stage2,
        workdir="runs/small_stage2_many",
        init_lora="runs/small_stage2/lora",
        optim=dataclasses.replace(stage2.optim, learning_rate=8e-4, warmup_steps=20, ema_decay=0.99),
        batch_size=8,
        steps=320,
        data=dataclasses.replace(stage2.data, sources=sources),
    )
