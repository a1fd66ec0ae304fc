"""UNO's recipe (paper, section 3.2 and appendix F) as far as it is published, with FLUX.1-dev.

python -m tools.synthesize_data run --config flux --run runs/pairs \
    --llm.model NAME --llm.endpoint URL --filter-vlm.model.model NAME --filter-vlm.model.endpoint URL

The names of the LLM and VLM, the DINOv2 size and its threshold are not published; ours are choices. The stage
I model that draws the second references is trained on the exported pairs of one subject; then `run` again.
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
