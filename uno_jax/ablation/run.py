"""A grid of trainings and evaluations -> one table beside the paper's.

`uno-ablate --config configs/small_ablation.py --out runs/ablation` trains every variant's stages and
evaluates its LoRA, each in a process of its own. Equal stages are trained once. The same command again does
what is missing. OUT/training/ID and OUT/evaluations/ID hold the jobs, OUT/table.md and table.json the
results. An ID is a hash of a job's settings and of the weights that it starts from; of lists it covers the
paths only.
"""

import dataclasses
import hashlib
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from uno_jax.ablation.grid import Ablation, Score, Variant
from uno_jax.evaluation.dreambench.scores import bootstrap_difference, bootstrap_interval
from uno_jax.evaluation.suites import check_evaluation
from uno_jax.support.atomic import atomic_write
from uno_jax.support.errors import RecipeError
from uno_jax.support.json_files import check_fields, read_object, shortened
from uno_jax.support.programs import run_program
from uno_jax.support.settings import to_dict
from uno_jax.training.config import TrainConfig
from uno_jax.training.recipes import recipe_text
from uno_jax.weights.identity import weights_id
from uno_jax.weights.names import lora_dir, model_dir

ID_LENGTH = 12


def run_ablation(ablation: Ablation, out: Path, only: Sequence[str] = ()) -> int:
    """Does what is missing, variant by variant, and writes the table after each. Returns the number of
    variants that have scores.

    Raises RecipeError when a program fails, and what `choose` and `check_evaluations` raise.
    """
    chosen, scored = choose(ablation, only), 0
    check_evaluations(ablation, chosen, out)
    for variant in chosen:
        for seeded in by_seed(ablation, variant):
            lora = train_stages(seeded, out)
            for name in ablation.evaluations:
                evaluate_variant(ablation, seeded, name, lora, out)
        scored = write_table(ablation, out)
    return scored


def choose(ablation: Ablation, only: Sequence[str]) -> list[Variant]:
    """The variants of these names, all where none is given.

    Raises RecipeError for names of no variant.
    """
    if unknown := sorted(set(only) - {variant.name for variant in ablation.variants}):
        known = "; ".join(variant.name for variant in ablation.variants)
        raise RecipeError(f"no variant {'; '.join(unknown)}. There are: {known}")
    return [variant for variant in ablation.variants if not only or variant.name in only]


def check_evaluations(ablation: Ablation, variants: Sequence[Variant], out: Path) -> None:
    """Checks the evaluations that are missing, before something is trained for them (`check_evaluation`)."""
    missing: dict[tuple[str, ...], None] = {}
    for seeded in (each for variant in variants for each in by_seed(ablation, variant)):
        lora = lora_of(stage_recipes(seeded, out))
        for name, words in ablation.evaluations.items():
            if not (evaluation_dir(ablation, seeded, name, lora, out) / "scores.json").is_file():
                missing[*words, *seeded.evaluate] = None
    for words in missing:
        check_evaluation([*words, "--model", ablation.model, "--lora", "none"])


def by_seed(ablation: Ablation, variant: Variant) -> list[Variant]:
    """A variant as it is trained with each of the ablation's seeds."""
    if not ablation.seeds or not variant.stages:
        return [variant]
    return [
        dataclasses.replace(
            variant, stages=tuple(dataclasses.replace(stage, seed=seed) for stage in variant.stages)
        )
        for seed in ablation.seeds
    ]


def stage_recipes(variant: Variant, out: Path) -> list[TrainConfig]:
    """The recipes as they are run: in a directory named by their content, each from the stage before."""
    recipes: list[TrainConfig] = []
    before = ""
    for stage in variant.stages:
        settings = to_dict(dataclasses.replace(stage, workdir=""))
        if settings["data"]["buckets"] == "own":
            del settings["data"]["buckets"]  # names are those from before this was a choice
        start = before or content_id(lora_dir(stage.init_lora))
        before = digest([settings, content_id(stage.weights_dir), start])
        if recipes:
            stage = dataclasses.replace(stage, init_lora=str(Path(recipes[-1].workdir) / "lora"))
        recipes.append(dataclasses.replace(stage, workdir=str(out / "training" / before)))
    return recipes


def content_id(weights: Path) -> str:
    """An ID of the weights that are at a path now; empty where there are none."""
    return weights_id(weights) if weights.name and weights.exists() else ""


def lora_of(recipes: Sequence[TrainConfig]) -> str:
    """Where the LoRA of the last of a variant's stages lies, or will; "none" where there are none."""
    return str(Path(recipes[-1].workdir) / "lora") if recipes else "none"


def train_stages(variant: Variant, out: Path) -> str:
    """The LoRA of a variant (`lora_of`), whose stages are trained where they are missing."""
    recipes = stage_recipes(variant, out)
    for number, recipe in enumerate(recipes, 1):
        if not (Path(recipe.workdir) / "lora").is_dir():
            file = Path(recipe.workdir) / "recipe.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(recipe_text(recipe) + "\n", encoding="utf-8")
            run_program(f"{variant.name}, stage {number}", "uno_jax.train", "--config", str(file))
    return lora_of(recipes)


def evaluate_variant(ablation: Ablation, variant: Variant, name: str, lora: str, out: Path) -> None:
    """Runs one evaluation of a variant where it is missing."""
    place = evaluation_dir(ablation, variant, name, lora, out)
    if not (place / "scores.json").is_file():
        where = ("--model", ablation.model, "--lora", lora, "--out", str(place))
        run_program(
            f"{variant.name}, {name}",
            "uno_jax.evaluate",
            *ablation.evaluations[name],
            *variant.evaluate,
            *where,
        )


def evaluation_dir(ablation: Ablation, variant: Variant, name: str, lora: str, out: Path) -> Path:
    """The directory of an evaluation, named by its content."""
    trained = Path(lora).parent.name or lora
    words = [content_id(model_dir(ablation.model)), trained, *ablation.evaluations[name], *variant.evaluate]
    return out / "evaluations" / digest(words)


def digest(value: Any) -> str:
    """The ID of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:ID_LENGTH]


class Found(NamedTuple):
    """A score, and its part in each row of the evaluation by the row's number and prompt, where the ablation
    names its path: over several seeds their means, and in `seeds` what was found with each.
    """

    value: float
    rows: dict[tuple[int, str], float]
    seeds: tuple["Found", ...] = ()


Scores = dict[str, dict[str, Found]]


def read_scores(ablation: Ablation, out: Path) -> Scores:
    """Variant -> score -> what was found, in the evaluations that are finished.

    Raises RecipeError when one lacks a score.
    """
    found: Scores = {}
    for variant in ablation.variants:
        each = [scores_of(ablation, seeded, out) for seeded in by_seed(ablation, variant)]
        found[variant.name] = {
            score.name: mean_of([own[score.name] for own in each if score.name in own])
            for score in ablation.scores
            if any(score.name in own for own in each)
        }
    return found


def scores_of(ablation: Ablation, variant: Variant, out: Path) -> dict[str, Found]:
    """Score -> what was found of one training of a variant."""
    lora = lora_of(stage_recipes(variant, out))
    found: dict[str, Found] = {}
    for name in ablation.evaluations:
        path = evaluation_dir(ablation, variant, name, lora, out) / "scores.json"
        if path.is_file():
            record = read_object(path, {}, RecipeError)
            own = [score for score in ablation.scores if score.evaluation == name]
            found |= {score.name: found_in(record, score, path) for score in own}
    return found


def found_in(record: Any, score: Score, path: Path) -> Found:
    """A score in the record of its evaluation, the file `path`."""
    return Found(value_at(record, score.path, path), row_values(record, score, path))


def mean_of(seeds: Sequence[Found]) -> Found:
    """The mean over seeds; of one it is that."""
    if len(seeds) == 1:
        return seeds[0]
    common = [row for row in seeds[0].rows if all(row in each.rows for each in seeds)]
    rows = {row: statistics.fmean(each.rows[row] for each in seeds) for row in common}
    return Found(statistics.fmean(each.value for each in seeds), rows, tuple(seeds))


def value_at(record: Any, keys: Sequence[str], path: Path, verdicts: bool = False) -> float:
    """The number at a path of keys; errors name the file `path`. With `verdicts` it may be true or false."""
    for key in keys:
        if not isinstance(record, dict) or key not in record:
            known = ", ".join(record) if isinstance(record, dict) else repr(record)
            raise RecipeError(f"{path} has no {'.'.join(keys)}: at {key!r} there is {known}")
        record = record[key]
    if verdicts and isinstance(record, bool):
        return float(record)
    if isinstance(record, bool) or not isinstance(record, int | float) or not abs(record) < math.inf:
        raise RecipeError(f"{path}: {'.'.join(keys)} must be a finite number, got {shortened(record)}")
    return float(record)


def row_values(record: Any, score: Score, path: Path) -> dict[tuple[int, str], float]:
    """A score's part in each row of its kind; empty where the ablation does not name its path."""
    if not score.row:
        return {}
    rows = check_fields(record, {"rows": list[dict[str, Any]]}, str(path), RecipeError)["rows"]
    own = [row for row in rows if row.get("kind", "") == score.kind]
    return {
        (i, str(row.get("prompt"))): value_at(row, score.row, path, verdicts=True)
        for i, row in enumerate(own)
    }


def write_table(ablation: Ablation, out: Path) -> int:
    """Writes table.json and table.md: values, differences from the first variant, the paper's. Returns the
    number of variants that have scores.
    """
    found = read_scores(ablation, out)
    first = found[ablation.variants[0].name]
    record = {
        "scores": {name: {key: each.value for key, each in row.items()} for name, row in found.items()},
        "intervals": {
            name: {
                key: within for key, each in row.items() if (within := interval_from(each, first.get(key)))
            }
            for name, row in found.items()
            if row is not first
        },
        "paper": {variant.name: variant.paper for variant in ablation.variants},
    }
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / "table.json") as partial:
        partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    with atomic_write(out / "table.md") as partial:
        partial.write_text("\n".join(table_lines(ablation, found)) + "\n", encoding="utf-8")
    return sum(map(bool, found.values()))


def interval_from(found: Found, base: Found | None) -> tuple[float, float] | None:
    """The bootstrap interval of the difference of two variants' means, over prompts, and over seeds where
    there are several; None where their rows differ.
    """
    if base is None or not base.rows or base.rows.keys() != found.rows.keys():
        return None
    if not (found.seeds or base.seeds):
        return bootstrap_interval([value - base.rows[row] for row, value in found.rows.items()])
    own, others = (
        [[seeded.rows[row] for row in found.rows] for seeded in each.seeds or (each,)]
        for each in (found, base)
    )
    return bootstrap_difference(own, others)


def table_lines(ablation: Ablation, found: Scores) -> list[str]:
    """Lines of Markdown; a score has a column for the paper where the paper has any of its values."""
    paper = {
        variant.name: {name: Found(value, {}) for name, value in variant.paper.items()}
        for variant in ablation.variants
    }
    published = {name for values in paper.values() for name in values}
    heads, columns = [""], []
    for score in ablation.scores:
        heads.append(score.name)
        columns.append((score.name, found, score.percent))
        if score.name in published:
            heads.append("paper")
            columns.append((score.name, paper, False))
    lines = ["|" + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    first = ablation.variants[0].name
    for variant in found:
        cells = [variant]
        for name, values, percent in columns:
            base = None if variant == first else values[first].get(name)
            cells.append(table_cell(values[variant].get(name), base, percent))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def table_cell(found: Found | None, base: Found | None, percent: bool = False) -> str:
    """A value, with the standard deviation over seeds where there are several, and its difference from the
    first variant's with the interval of that: "46.7 ± 1.2 % (-12.0, -16.7 to -7.1)".
    """
    if found is None:
        return ""
    scale, digits = (100, 1) if percent else (1, 3)
    spread = statistics.stdev(each.value for each in found.seeds) if found.seeds else None
    around = "" if spread is None else f" ± {scale * spread:.{digits}f}"
    shown = f"{scale * found.value:.{digits}f}{around}{' %' if percent else ''}"
    if base is None:
        return shown
    difference = f"{scale * (found.value - base.value):+.{digits}f}"
    if within := interval_from(found, base):
        difference += f", {scale * within[0]:+.{digits}f} to {scale * within[1]:+.{digits}f}"
    return f"{shown} ({difference})"
