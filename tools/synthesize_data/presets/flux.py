"""UNO's recipe (paper, section 3.2 and appendix F) as far as it is published, with FLUX.1-dev.

uno-synthesize run --config flux --run runs/pairs \
    --llm.model NAME --llm.endpoint URL --filter-vlm.model.model NAME --filter-vlm.model.endpoint URL

The names of the LLM and VLM, the size of DINOv2 and its threshold are not published; these are our choices.
The stage I model that draws the second references is trained on the exported pairs of one subject; then `run`
again.
"""

from ..config import ExportConfig, SynthConfig


def get_config() -> SynthConfig:
    return SynthConfig(
        export=ExportConfig(
            licences=(
                "FLUX.1-dev: FLUX.1 [dev] Non-Commercial License",
                "DINOv2: Apache-2.0",
                "Grounding DINO: Apache-2.0",
            )
        )
    )
