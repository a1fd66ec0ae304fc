"""The steps of a round: pairs, stage I, second references, stage II, evaluations. Each is a command of the
project in a process of its own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from uno_jax.ablation.run import content_id
from uno_jax.coevolution.config import Coevolution, stage_recipe
from uno_jax.coevolution.steps import Json, Step, finish
from uno_jax.support.atomic import atomic_write
from uno_jax.support.errors import RecipeError
from uno_jax.support.json_files import read_object
from uno_jax.support.programs import run_program
from uno_jax.support.settings import to_dict
from uno_jax.support.tools_package import installed_name
from uno_jax.training.config import TrainConfig
from uno_jax.training.recipes import recipe_text
from uno_jax.weights.names import model_dir


class Model(NamedTuple):
    """A model that a round starts from or ends with."""

    name: str
    lora: str
    """Directory of its LoRA; empty for the base."""
    id: str = ""
    """ID of the steps that made it."""


class Round(NamedTuple):
    """A finished round."""

    number: int
    folder: Path
    start: Model
    model: Model
    pairs: dict[str, Json]
    """What the synthesis counted by stage, of pairs of one reference and when second references were
    added.
    """
    trained: dict[str, int]
    """Pairs that the model was trained on, of one reference and of two."""


def run_round(config: Coevolution, number: int, start: Model, out: Path) -> Round:
    """Does what is missing of a round.

    Raises RecipeError when a program fails, a finished step has other settings, or no pair was kept.
    """
    folder = out / f"round_{number}"
    words = synthesis_arguments(config, number, start.lora, folder)
    until = ("--until", "export")
    singles = finish(synthesis_step("pairs", config, folder, words, until), start.id, out)
    if not singles.result["single/train"]:
        page = folder / "pairs" / "report.html"
        raise RecipeError(f"{folder.name}: no pair is left to train on; {page} shows why each was rejected")
    lora = start.lora or config.stage1.init_lora
    done = finish(training_step("stage1", config.stage1, folder, lora), singles.id, out)
    twos = finish(synthesis_step("second_references", config, folder, words), done.id, out)
    last, done = "stage1", twos
    if twos.result["two/train"]:
        lora = str(folder / "stage1" / "lora")
        last, done = "stage2", finish(training_step("stage2", config.stage2, folder, lora), twos.id, out)
    model = Model(folder.name.replace("_", " "), str(folder / last / "lora"), done.id)
    evaluate(config, model, folder, out)
    counted = {"single": singles.result["funnel"], "two": twos.result["funnel"]}
    trained = {"single": singles.result["single/train"], "two": twos.result["two/train"]}
    return Round(number, folder, start, model, counted, trained)


def synthesis_step(
    what: str, config: Coevolution, folder: Path, words: Sequence[str], until: Sequence[str] = ()
) -> Step:
    """A step of a round's synthesis run, which lies in its folder pairs: the first one ends early, and the
    other goes on there.
    """
    words = ("--run", str(folder / "pairs"), *until, *words)

    def work() -> Json:
        run_program(f"{folder.name}, {what}", installed_name("tools.synthesize_data"), "run", *words)
        fields: Any = {"samples": dict[str, int], "funnel": Json}
        sheet = read_object(folder / "pairs" / "export" / "datasheet.json", fields, RecipeError)
        return {**sheet["samples"], "funnel": sheet["funnel"]}

    settings = {"arguments": list(words), "model": content_id(model_dir(config.model))}
    return Step(f"{folder.name}/{what}", settings, work, shares=not until)


def training_step(stage: str, recipe: TrainConfig, folder: Path, init_lora: str) -> Step:
    """A training on a round's pairs, from a LoRA if one is named."""
    recipe = stage_recipe(recipe, folder / "pairs", folder / stage, init_lora)
    settings = {"recipe": to_dict(recipe), "weights": content_id(recipe.weights_dir)}
    return Step(f"{folder.name}/{stage}", settings, lambda: train(f"{folder.name}, {stage}", recipe))


def evaluate(config: Coevolution, model: Model, folder: Path, out: Path) -> None:
    """Does what is missing of a model's evaluations, in evaluation_NAME in the folder.

    Raises RecipeError as `run_round`.
    """
    for name in config.evaluations:
        finish(evaluation_step(config, name, model, folder), model.id, out)


def synthesis_arguments(config: Coevolution, number: int, start: str, folder: Path) -> tuple[str, ...]:
    """Of `uno-synthesize run` in a round: other choices in each, and targets by the LoRA it starts from."""
    lora = str(folder / "stage1" / "lora")
    seconds = ("--second-reference.model", config.model, "--second-reference.lora", lora)
    seeds = ("--diptychs.seed", str(number - 1), "--second-reference.seed", str(number - 1))
    own = config.first if number == 1 else config.later
    targets = () if number == 1 else ("--generate.model", config.model, "--generate.lora", start)
    return (*own, *seeds, *seconds, *targets)


def train(what: str, recipe: TrainConfig) -> Json:
    """Trains a recipe, or goes on with it; the ID of its LoRA."""
    workdir, lora = Path(recipe.workdir), Path(recipe.workdir) / "lora"
    with atomic_write(workdir / "recipe.py") as partial:
        partial.write_text(recipe_text(recipe) + "\n", encoding="utf-8")
    if not lora.is_dir():
        run_program(what, "uno_jax.train", "--config", str(workdir / "recipe.py"))
    if not lora.is_dir():
        raise RecipeError(f"{what} was stopped before its last step; the same command continues from there")
    return {"lora": content_id(lora), "steps": recipe.steps}


def evaluation_step(config: Coevolution, evaluation: str, model: Model, folder: Path) -> Step:
    """The step of one of a model's evaluations."""
    name = f"{folder.name}/evaluation_{evaluation}"
    place = folder / f"evaluation_{evaluation}"
    words = (*config.evaluations[evaluation], "--model", config.model, "--lora", model.lora or "none")

    def work() -> Json:
        if not (place / "scores.json").is_file():
            run_program(f"{folder.name}, {evaluation}", "uno_jax.evaluate", *words, "--out", str(place))
        return {"scores": str(place / "scores.json")}

    return Step(name, {"arguments": list(words), "model": content_id(model_dir(config.model))}, work)
