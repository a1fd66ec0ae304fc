"""The preset "small" with a model that was trained on pairs: it draws each target by itself, with the toy
world's picture as its reference, in place of completing a diptych.

uno-synthesize run --config small_referenced --run runs/more_pairs --generate.lora runs/small_stage2/lora

`uno-coevolve` draws the pairs of its second round so.
"""

import dataclasses

from ..config import SynthConfig
from . import small


def get_config() -> SynthConfig:
    config = small.get_config()
    generate = dataclasses.replace(config.generate, second="referenced", arguments=small.BATCHES)
    return dataclasses.replace(config, generate=generate)
