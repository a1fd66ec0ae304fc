"""Co-evolution of the small model and its pairs on the toy world: two rounds.

The shipped base, without its LoRA, draws subjects of the toy world again in other scenes, with the toy
world's pictures as references, as it saw them in its own training; from round 2 on, the best model so far
does. The sizes are those of an hour on two cores: 800 targets a round, trainings of 128 and 32 steps.

uno-convert efficientnet --dst weights/scorer
uno-coevolve --config configs/small_coevolution.py --out runs/coevolution
"""

import dataclasses

from uno_jax.coevolution import SINGLE, TWO, Coevolution, Score
from uno_jax.data.config import SourceConfig
from uno_jax.training.config import OptimConfig, TrainConfig
from uno_jax.training.recipes import load_recipe

DIPTYCHS, PROMPTS, STEPS = 800, 120, "8"
GUIDED = ("--true-cfg", "1.5", "--image-cfg", "2")  # as the preset small_referenced draws
SCORER = "efficientnet_lite0"


def synthesis() -> tuple[str, ...]:
    """Arguments of every round."""
    sizes = ("--limit", str(DIPTYCHS), "--diptychs.per-subject", "2", "--diptychs.two", "0.25")
    drawn = ("--generate.steps", STEPS, "--second-reference.steps", STEPS)
    kept = ("--filter-vlm.threshold", "2", "--export.no-shards")
    return ("--config", "small_referenced", *sizes, *drawn, *kept)


def stage(steps: int, *sources: SourceConfig) -> TrainConfig:
    recipe = load_recipe("configs/small_stage1.py")
    optim = OptimConfig(learning_rate=1e-3, warmup_steps=10, decay_to=0.1, ema_decay=0.97)
    data = dataclasses.replace(recipe.data, sources=sources)
    return dataclasses.replace(recipe, data=data, optim=optim, batch_size=8, steps=steps, checkpoint_every=16)


def score(name: str, key: str, row: str, percent: bool = True) -> Score:
    path = (SCORER, "single", "model", key)
    return Score(name, "toybox", path, percent, row=("model", row), kind="single")


def get_config() -> Coevolution:
    drawn = ("--count", str(PROMPTS), "--steps", STEPS, "--no-baseline", *GUIDED)
    evaluated = ("--suite", "toybox", "--kinds", "single", *drawn)
    return Coevolution(
        model="small",
        first=(*synthesis(), "--generate.lora", "none"),
        later=synthesis(),
        stage1=stage(128, SourceConfig(SINGLE)),
        stage2=stage(32, SourceConfig(TWO, 0.5), SourceConfig(SINGLE, 0.5)),
        evaluations={"toybox": (*evaluated, "--scorer", "weights/scorer")},
        scores=(
            score("top-1", "top1", "top1"),
            score("cosine", "cosine", "cosine", percent=False),
            score("scene", "scene_accuracy", "scene_right"),
            score("background copied", "copied_scene", "scene_copied"),
        ),
        better="cosine",
        pictures=PROMPTS,
    )
