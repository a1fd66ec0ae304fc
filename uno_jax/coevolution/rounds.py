"""The steps of a round: pairs, stage I, second references, stage II, evaluations. Each is a command of the project
in a process of its own.
"""

from pathlib import Path
from typing import Any, NamedTuple

from uno_jax.ablation.run import content_id, run_program
from uno_jax.coevolution.config import Coevolution, stage_recipe
from uno_jax.coevolution.steps import Json, Step, finish
from uno_jax.support.atomic import atomic_write
from uno_jax.support.errors import RecipeError
from uno_jax.support.json_files import read_object
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
    pairs: Json
    """What the synthesis counted, by stage."""
    trained: dict[str, int]
    """Pairs that the model was trained on, of one reference and of two."""


def run_round(config: Coevolution, number: int, start: Model, out: Path) -> Round:
    """Does what is missing of a round.

    Raises RecipeError when a program fails, a finished step has other settings, or no pair was kept.
    """
    name, folder = f"round_{number}", out / f"round_{number}"
    loras = {stage: folder / stage / "lora" for stage in ("stage1", "stage2")}

    def pairs_step(what: str, until: tuple[str, ...]) -> Step:
        arguments = synthesis_arguments(config, number, start.lora, loras["stage1"])
        words = ("--run", str(folder / "pairs"), *until, *arguments)
        settings = {"arguments": list(words), "model": content_id(model_dir(config.model))}
        return Step(f"{name}/{what}", settings, lambda: synthesise(f"{name}, {what}", words, folder / "pairs"),
                    shares=not until)  # fmt: skip

    def training_step(stage: str, recipe: TrainConfig, init_lora: str) -> Step:
        recipe = stage_recipe(recipe, folder / "pairs", folder / stage, init_lora)
        settings = {"recipe": to_dict(recipe), "weights": content_id(recipe.weights_dir)}
        return Step(f"{name}/{stage}", settings, lambda: train(f"{name}, {stage}", recipe))

    made = finish(pairs_step("pairs", ("--until", "export")), start.id, out)
    if not made.result["single/train"]:
        raise RecipeError(
            f"{name}: no pair is left to train on; {folder / 'pairs' / 'report.html'} shows why each was rejected"
        )
    done = finish(training_step("stage1", config.stage1, start.lora or config.stage1.init_lora), made.id, out)
    made = finish(pairs_step("second_references", ()), done.id, out)
    trained = {"single": made.result["single/train"], "two": made.result["two/train"]}
    last, done = "stage1", made
    if trained["two"]:
        last = "stage2"
        done = finish(training_step("stage2", config.stage2, str(loras["stage1"])), made.id, out)
    model = Model(name.replace("_", " "), str(loras[last]), done.id)
    for evaluation in config.evaluations:
        finish(evaluation_step(config, name, evaluation, model, folder), model.id, out)
    return Round(number, folder, start, model, made.result, trained)


def synthesis_arguments(config: Coevolution, number: int, start: str, stage1: Path) -> tuple[str, ...]:
    """Of `uno-synthesize run` in a round: other choices in each, and targets by the LoRA it starts from."""
    seconds = ("--second-reference.model", config.model, "--second-reference.lora", str(stage1))
    seeds = ("--diptychs.seed", str(number - 1), "--second-reference.seed", str(number - 1))
    if number == 1:
        return (*config.first, *seeds, *seconds)
    return (*config.later, *seeds, *seconds, "--generate.model", config.model, "--generate.lora", start)


def synthesise(what: str, words: tuple[str, ...], run: Path) -> Json:
    """Runs the synthesis as far as `words` say; what its datasheet counts."""
    run_program(what, installed_name("tools.synthesize_data"), "run", *words)
    fields: Any = {"samples": dict[str, int], "funnel": dict[str, Any]}
    sheet = read_object(run / "export" / "datasheet.json", fields, RecipeError)
    return {**sheet["samples"], "funnel": sheet["funnel"]}


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


def evaluation_step(config: Coevolution, name: str, evaluation: str, model: Model, folder: Path) -> Step:
    """The step of one of the evaluations of a round's model."""
    place = folder / f"evaluation_{evaluation}"
    words = (*config.evaluations[evaluation], "--model", config.model, "--lora", model.lora)

    def work() -> Json:
        if not (place / "scores.json").is_file():
            run_program(f"{name}, {evaluation}", "uno_jax.evaluate", *words, "--out", str(place))
        return {"scores": str(place / "scores.json")}

    settings = {"arguments": list(words), "model": content_id(model_dir(config.model))}
    return Step(f"{name}/evaluation_{evaluation}", settings, work)
