"""What an ablation is: variants of a training, the evaluations of each, and the scores of its table."""

from dataclasses import dataclass, field

from uno_jax.support.errors import RecipeError
from uno_jax.support.python_config import returned_by
from uno_jax.training.config import TrainConfig
from uno_jax.training.config_check import check_recipe
from uno_jax.training.recipes import find_recipe, provide_modules_of_0_1


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    name: str
    stages: tuple[TrainConfig, ...] = ()
    """Trainings one after another, each from the LoRA of the one before; their workdir is replaced."""
    evaluate: tuple[str, ...] = ()
    """Further arguments of every evaluation, such as ("--offset-scale", "2")."""
    paper: dict[str, float] = field(default_factory=dict)
    """The paper's figures of this variant, by the names of scores."""


@dataclass(frozen=True)
class Score:
    """One column: an evaluation and the path in its scores.json, such as ("single", "model", "top1")."""

    name: str
    evaluation: str
    path: tuple[str, ...]
    percent: bool = False
    row: tuple[str, ...] = ()
    """Path of its part in each of the evaluation's rows, such as ("model", "top1"); with it differences get
    95 % intervals.
    """
    kind: str = ""
    """Kind of the rows that count, where there are several."""


@dataclass(frozen=True)
class Ablation:
    """What get_config() of an ablation's file returns."""

    model: str
    """Model of every evaluation."""
    variants: tuple[Variant, ...]
    """Rows of the table; differences are to the first."""
    evaluations: dict[str, tuple[str, ...]]
    """Name -> arguments of `uno-evaluate` without --model, --lora and --out."""
    scores: tuple[Score, ...]
    seeds: tuple[int, ...] = ()
    """Seeds with which every variant is trained; scores are their means. Empty: each recipe's own."""


def load_ablation(name: str) -> Ablation:
    """The ablation of a file, or of a shipped one.

    Raises RecipeError for anything but a file with such a get_config(), and for recipes that cannot work.
    """
    path = find_recipe(name, "ablation")
    provide_modules_of_0_1()
    ablation = returned_by(path, Ablation)
    names = [variant.name for variant in ablation.variants]
    check_seeds(ablation.seeds)
    if not names or len(set(names)) < len(names):
        raise RecipeError(f"{path} must have variants of different names, got {names}")
    for score in ablation.scores:
        if score.evaluation not in ablation.evaluations:
            raise RecipeError(
                f"{path}: score {score.name!r} names an unknown evaluation {score.evaluation!r}; there are "
                f"{', '.join(ablation.evaluations)}"
            )
    for variant in ablation.variants:
        for stage in variant.stages:
            check_recipe(stage)
    return ablation


def check_seeds(seeds: tuple[int, ...]) -> None:
    """Raises RecipeError for a seed that stands twice, and for one below 0."""
    if len(set(seeds)) < len(seeds) or any(seed < 0 for seed in seeds):
        raise RecipeError(f"seeds must be different numbers of 0 or more, got {', '.join(map(str, seeds))}")
