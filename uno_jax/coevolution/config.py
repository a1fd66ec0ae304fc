"""What a co-evolution is: a base model, how its pairs are made and filtered, and what is trained on them."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from uno_jax.ablation.grid import Score
from uno_jax.support.errors import RecipeError
from uno_jax.support.python_config import returned_by
from uno_jax.training.config import TrainConfig
from uno_jax.training.config_check import check_recipe
from uno_jax.training.recipes import find_recipe

PAIRS = "{pairs}"
SINGLE, TWO = f"{PAIRS}/export/single/train.json", f"{PAIRS}/export/two/train.json"
"""Paths of a round's lists, for the recipes' sources."""
MOST_ROUNDS = 100


@dataclass(frozen=True)
class Coevolution:
    """What get_config() of a co-evolution's file returns."""

    model: str
    """Base model: every LoRA is trained for it and evaluated on it."""
    first: tuple[str, ...]
    """Arguments of `uno-synthesize run` in round 1, in which the base draws targets; without --run and
    --second-reference.
    """
    later: tuple[str, ...]
    """The same of later rounds, in which the model that is best so far draws them: its LoRA is
    --generate.lora.
    """
    stage1: TrainConfig
    """Training on pairs of one reference: SINGLE among its sources is the round's list. The working
    directory is replaced, and in later rounds the LoRA that it starts from.
    """
    stage2: TrainConfig
    """Training on pairs of two references, TWO, from stage I's LoRA; left out of a round that kept none."""
    evaluations: dict[str, tuple[str, ...]]
    """Name -> arguments of `uno-evaluate` without --model, --lora and --out."""
    scores: tuple[Score, ...]
    """Columns of the table."""
    better: str
    """Name of the score, of which more is better, that chooses the round from which the next one starts."""
    rounds: int = 2
    """Number of rounds."""
    pictures: int = 0
    """Pictures that the evaluations of a round draw, for --plan."""


def load_coevolution(name: str) -> Coevolution:
    """The co-evolution of a file, or of a shipped one.

    Raises RecipeError for anything but a file with such a get_config(), and for one that cannot work.
    """
    path = find_recipe(name, "coevolution")
    config = returned_by(path, Coevolution)
    if not 1 <= config.rounds <= MOST_ROUNDS:
        raise RecipeError(f"{path}: rounds must be 1 to {MOST_ROUNDS}, got {config.rounds}")
    names = [score.name for score in config.scores]
    if config.better not in names:
        raise RecipeError(f"{path}: better names no score {config.better!r}; there are {', '.join(names)}")
    for score in config.scores:
        if score.evaluation not in config.evaluations:
            raise RecipeError(
                f"{path}: score {score.name!r} names an unknown evaluation {score.evaluation!r}; there are "
                f"{', '.join(config.evaluations)}"
            )
    for stage, needed in ((config.stage1, SINGLE), (config.stage2, TWO)):
        if needed not in [source.path for source in stage.data.sources]:
            raise RecipeError(f"{path}: the round's list {needed} must be among the sources of its stage")
        check_recipe(stage)
    return config


def stage_recipe(stage: TrainConfig, pairs: Path, workdir: Path, init_lora: str) -> TrainConfig:
    """A stage as it is run: on the lists of the synthesis run `pairs`, from a LoRA, in a working
    directory.
    """
    sources = tuple(
        dataclasses.replace(source, path=source.path.replace(PAIRS, str(pairs)))
        for source in stage.data.sources
    )
    data = dataclasses.replace(stage.data, sources=sources)
    return dataclasses.replace(stage, workdir=str(workdir), init_lora=init_lora, data=data)
