"""UNO's co-evolution at full size, with FLUX.1-dev: the form of small_coevolution.py, never run here.

Round 1 is the paper's: diptychs by FLUX.1-dev, stage I, second references by the stage I model, stage II.
Round 2 draws its targets with that model, from first panels by FLUX.1-dev as references. The language models
are those that a run of `uno-synthesize` is given; name them here.

uno-convert … (README) for weights/flux-dev and weights/encoders
uno-coevolve --config configs/flux_coevolution.py --out runs/coevolution --plan h100:8
uno-coevolve --config configs/flux_coevolution.py --out runs/coevolution
"""

import dataclasses

from uno_jax.coevolution import SINGLE, TWO, Coevolution, Score
from uno_jax.data.config import SourceConfig
from uno_jax.training.config import TrainConfig
from uno_jax.training.recipes import load_recipe

LANGUAGE = (
    *("--llm.model", "NAME", "--llm.endpoint", "http://localhost:8000/v1"),
    *("--filter-vlm.model.model", "NAME", "--filter-vlm.model.endpoint", "http://localhost:8001/v1"),
)
MODEL = "weights/flux-dev"
PROMPTS = 750  # of DreamBench, with one subject


def stage(recipe: str, *sources: SourceConfig) -> TrainConfig:
    found = load_recipe(recipe)
    return dataclasses.replace(found, data=dataclasses.replace(found.data, path="", sources=sources))


def score(name: str) -> Score:
    # Not every picture has a copied border to be told: that score has no interval.
    row = () if name == "copied_border" else (name,)
    return Score(name, "dreambench", ("scores", name, "mean"), row=row)


def get_config() -> Coevolution:
    evaluated = ("--suite", "dreambench-single", "--data", "dreambooth/dataset")
    return Coevolution(
        model=MODEL,
        first=("--config", "flux", *LANGUAGE),
        later=("--config", "flux_referenced", *LANGUAGE),
        stage1=stage("configs/uno_stage1.py", SourceConfig(SINGLE, min_score=4)),
        stage2=stage("configs/uno_stage2.py", SourceConfig(TWO, min_score=4)),
        evaluations={"dreambench": (*evaluated, "--encoders", "weights/encoders")},
        scores=(score("dino"), score("clip_i"), score("clip_t"), score("copied_border")),
        better="dino",
        pictures=PROMPTS,
    )
