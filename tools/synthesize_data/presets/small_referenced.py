"""The preset "small" with a model that was trained on pairs: it draws each target by itself, with the toy
world's picture as its reference, in place of completing a diptych.

uno-synthesize run --config small_referenced --run runs/more_pairs --generate.lora runs/small_stage2/lora

`uno-coevolve` draws the pairs of its second round so.
"""

import dataclasses

from ..config import SynthConfig
from . import small

# Pictures that a model is to learn from are guided less than those for show: what guidance exaggerates, it
# would learn, and then be guided again.
GUIDED = ("--true-cfg", "1.5", "--image-cfg", "2")


def get_config() -> SynthConfig:
    config = small.get_config()
    arguments = (*small.BATCHES, *GUIDED)
    generate = dataclasses.replace(config.generate, second="referenced", arguments=arguments)
    second = dataclasses.replace(config.second_reference, arguments=arguments)
    return dataclasses.replace(config, generate=generate, second_reference=second)
