"""The preset "flux" with a model that was trained on pairs: FLUX.1-dev draws first panels from text, and
with a UNO LoRA each target by itself, with the first panel as its reference, in place of a diptych.

uno-synthesize run --config flux_referenced --run runs/more_pairs --generate.lora runs/uno_stage2/lora \\
    --llm.model NAME --llm.endpoint URL --filter-vlm.model.model NAME --filter-vlm.model.endpoint URL

Panels have 512 pixels, as stage I sees pictures. `uno-coevolve` draws the pairs of its second round so.
"""

import dataclasses

from ..config import SynthConfig
from . import flux


def get_config() -> SynthConfig:
    config = flux.get_config()
    generate = dataclasses.replace(
        config.generate, backend="uno_jax", model="weights/flux-dev", second="referenced", batch_size=64
    )
    diptychs = dataclasses.replace(config.diptychs, panels=((512, 512),))
    return dataclasses.replace(config, generate=generate, diptychs=diptychs)
