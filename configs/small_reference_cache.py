"""A LoRA whose references are computed once a picture, on the small model: from stage II's LoRA.

References see references only (`UnoPE.reference_cache`), mostly one, and two in a third of the samples. Its
lists and encodings are those of configs/small_stage2_many.py, with few samples of three and four references.

uno-train --config configs/small_reference_cache.py --data.encodings data/toybox/encodings
"""

import dataclasses

from uno_jax.data.config import with_weights
from uno_jax.families.uno.config import UnoPE
from uno_jax.training.config import TrainConfig
from uno_jax.training.recipes import load_recipe

WEIGHTS = (0.35, 0.3, 0.15, 0.2, 0.02, 0.01)  # of one, one_place, two, two_place, three and four


def get_config() -> TrainConfig:
    stage = load_recipe("configs/small_stage2_many.py")
    return dataclasses.replace(
        stage,
        workdir="runs/small_reference_cache",
        unope=UnoPE(reference_cache=True),
        optim=dataclasses.replace(stage.optim, learning_rate=1.5e-3, warmup_steps=30),
        steps=480,
        data=with_weights(stage.data, WEIGHTS),
    )
