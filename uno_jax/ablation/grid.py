"""What an ablation is: variants of a training, the evaluations of each, and the scores of its table.

Apart from `ablate`, whose classes would be others when it is run than when a config imports them.
"""

from dataclasses import dataclass, field

from uno_jax.support.errors import RecipeError
from uno_jax.training.config import TrainConfig
from uno_jax.training.config_check import check_recipe
from uno_jax.training.recipes import find_recipe, returned_by


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    name: str
    stages: tuple[TrainConfig, ...] = ()
    """Trainings after another, each from the LoRA of the one before; their workdir is chosen here."""
    evaluate: tuple[str, ...] = ()
    """More for every evaluation, such as ("--offset-scale", "2")."""
    paper: dict[str, float] = field(default_factory=dict)
    """The paper's figure of this variant, by the name of a score."""


@dataclass(frozen=True)
class Score:
    """One column: where it is in which evaluation's scores.json, such as ("single", "model", "top1")."""

    name: str
    evaluation: str
    path: tuple[str, ...]
    percent: bool = False
    row: tuple[str, ...] = ()
    """Where its part in each of the evaluation's rows is, such as ("model", "top1"): differences then get
    their 95 % intervals.
    """
    kind: str = ""
    """Of the rows that count, where there are several kinds."""


@dataclass(frozen=True)
class Ablation:
    """What get_config() of an ablation's file returns."""

    model: str
    """Of every evaluation."""
    variants: tuple[Variant, ...]
    """Differences are to the first."""
    evaluations: dict[str, tuple[str, ...]]
    """Name -> arguments of `uno_jax.evaluate`, without --model, --lora and --out."""
    scores: tuple[Score, ...]


def load_ablation(name: str) -> Ablation:
    """Of a file, or of one shipped with the program. Raises RecipeError for anything but a file with such a
    get_config(), and for recipes that cannot work.
    """
    path = find_recipe(name, ablation=True)
    ablation = returned_by(path, Ablation)
    names = [variant.name for variant in ablation.variants]
    if not names or len(set(names)) < len(names):
        raise RecipeError(f"{path} must have variants of different names, got {names}")
    for score in ablation.scores:
        if score.evaluation not in ablation.evaluations:
            raise RecipeError(
                f"{path}: score {score.name!r} is of no evaluation; it names {score.evaluation!r}"
            )
    for variant in ablation.variants:
        for stage in variant.stages:
            check_recipe(stage)
    return ablation
