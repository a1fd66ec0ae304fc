"""A grid of trainings and evaluations -> one table beside the paper's.

`python -m uno_jax.ablate --config configs/small_ablation.py --out runs/ablation` trains every variant's
stages and evaluates its LoRA, each by its own program. Equal stages are trained once. The same command again
does what is missing. OUT/training/ID and OUT/evaluations/ID hold the jobs, OUT/table.md and table.json what
came of them. An ID is of the settings and the weights that a job starts from; of lists it knows the paths.
"""

import argparse
import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uno_jax.ablation import Ablation, Score, Variant, load_ablation
from uno_jax.aside import whole_file
from uno_jax.command_line import errors_told
from uno_jax.config import to_dict
from uno_jax.jobs import weights_id
from uno_jax.recipe import RecipeError, TrainConfig, recipe_text
from uno_jax.shipped import model_dir

ID_LENGTH = 12


def run(ablation: Ablation, out: Path, only: Sequence[str] = ()) -> None:
    """Does what is missing, variant by variant, and writes the table after each.

    Raises RecipeError for unknown names in `only`, and when a program fails.
    """
    if unknown := sorted(set(only) - {variant.name for variant in ablation.variants}):
        known = ", ".join(variant.name for variant in ablation.variants)
        raise RecipeError(f"no variant {', '.join(unknown)}; there are {known}")
    for variant in ablation.variants:
        if not only or variant.name in only:
            lora = train_stages(variant, out)
            for name in ablation.evaluations:
                evaluate(ablation, variant, name, lora, out)
        write_table(ablation, out)


def stage_recipes(variant: Variant, out: Path) -> list[TrainConfig]:
    """The recipes as they are run: in a directory of their content's name, from the stage before."""
    recipes: list[TrainConfig] = []
    before = ""
    for stage in variant.stages:
        settings = to_dict(dataclasses.replace(stage, workdir=""))
        before = digest([settings, held_by(stage.weights_dir), before or held_by(Path(stage.init_lora))])
        if recipes:
            stage = dataclasses.replace(stage, init_lora=str(Path(recipes[-1].workdir) / "lora"))
        recipes.append(dataclasses.replace(stage, workdir=str(out / "training" / before)))
    return recipes


def held_by(weights: Path) -> str:
    """Tells what is at a path now from what was there before; empty where nothing is."""
    return weights_id(weights) if weights.name and weights.exists() else ""


def train_stages(variant: Variant, out: Path) -> str:
    """The LoRA of a variant's last stage, trained where it is missing; "none" for a variant without any."""
    lora = "none"
    for number, recipe in enumerate(stage_recipes(variant, out), 1):
        lora = str(Path(recipe.workdir) / "lora")
        if not Path(lora).is_dir():
            file = Path(recipe.workdir) / "recipe.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(recipe_text(recipe) + "\n", encoding="utf-8")
            program(f"{variant.name}, stage {number}", "uno_jax.train", "--config", str(file))
    return lora


def evaluate(ablation: Ablation, variant: Variant, name: str, lora: str, out: Path) -> None:
    place = evaluation_dir(ablation, variant, name, lora, out)
    if not (place / "scores.json").is_file():
        where = ("--model", ablation.model, "--lora", lora, "--out", str(place))
        program(
            f"{variant.name}, {name}",
            "uno_jax.evaluate",
            *ablation.evaluations[name],
            *variant.evaluate,
            *where,
        )


def evaluation_dir(ablation: Ablation, variant: Variant, name: str, lora: str, out: Path) -> Path:
    of = Path(lora).parent.name or lora
    words = [held_by(model_dir(ablation.model)), of, *ablation.evaluations[name], *variant.evaluate]
    return out / "evaluations" / digest(words)


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:ID_LENGTH]


def program(what: str, module: str, *arguments: str) -> None:
    """Runs one of the project's programs. Raises RecipeError with the command when it fails."""
    command = [sys.executable, "-m", module, *arguments]
    print(f"{what}: {' '.join(command[1:])}", flush=True)
    if code := subprocess.run(command).returncode:
        raise RecipeError(f"{what} failed with code {code}; the same command goes on from there")


def read_scores(ablation: Ablation, out: Path) -> dict[str, dict[str, float]]:
    """Variant -> score -> value, of the evaluations that are finished. Raises RecipeError when one lacks a
    score.
    """
    found: dict[str, dict[str, float]] = {}
    for variant in ablation.variants:
        recipes = stage_recipes(variant, out)
        lora = str(Path(recipes[-1].workdir) / "lora") if recipes else "none"
        row: dict[str, float] = {}
        for score in ablation.scores:
            path = evaluation_dir(ablation, variant, score.evaluation, lora, out) / "scores.json"
            if path.is_file():
                row[score.name] = value_at(json.loads(path.read_text(encoding="utf-8")), score, path)
        found[variant.name] = row
    return found


def value_at(record: Any, score: Score, path: Path) -> float:
    for key in score.path:
        if not isinstance(record, dict) or key not in record:
            known = ", ".join(record) if isinstance(record, dict) else repr(record)
            raise RecipeError(f"{path} has no {'.'.join(score.path)}: at {key!r} there is {known}")
        record = record[key]
    return float(record)


def write_table(ablation: Ablation, out: Path) -> None:
    """table.json and table.md: each value, its difference from the first variant, and the paper's."""
    scores = read_scores(ablation, out)
    paper = {variant.name: variant.paper for variant in ablation.variants}
    out.mkdir(parents=True, exist_ok=True)
    with whole_file(out / "table.json") as aside:
        aside.write_text(json.dumps({"scores": scores, "paper": paper}, indent=1) + "\n", encoding="utf-8")
    with whole_file(out / "table.md") as aside:
        aside.write_text("\n".join(table(ablation, scores)) + "\n", encoding="utf-8")


def table(ablation: Ablation, scores: dict[str, dict[str, float]]) -> list[str]:
    """Lines of Markdown."""
    lines = ["| | " + " | ".join(f"{score.name} | paper" for score in ablation.scores) + " |"]
    lines.append("|---|" + "---|---|" * len(ablation.scores))
    first = ablation.variants[0]
    for variant in ablation.variants:
        cells = [variant.name]
        for score in ablation.scores:
            for values, base, percent in (
                (scores[variant.name], scores[first.name], score.percent),
                (variant.paper, first.paper, False),
            ):
                cells.append(cell(values.get(score.name), base.get(score.name), percent, variant is first))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def cell(value: float | None, base: float | None, percent: bool, is_first: bool) -> str:
    """ "46.7 % (-12.0)": the value and its difference from the first variant's."""
    if value is None:
        return ""
    scale, digits = (100, 1) if percent else (1, 3)
    shown = f"{scale * value:.{digits}f}{' %' if percent else ''}"
    if is_first or base is None:
        return shown
    return f"{shown} ({scale * (value - base):+.{digits}f})"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m uno_jax.ablate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="file with get_config() -> Ablation")
    parser.add_argument("--out", type=Path, required=True, help="directory of the jobs and the table")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="this variant; repeatable"
    )
    parser.add_argument("--table", action="store_true", help="do nothing more: table of what is finished")
    args = parser.parse_args(argv)
    with errors_told(ValueError, OSError):
        ablation = load_ablation(args.config)
        if args.table:
            write_table(ablation, args.out)
        else:
            run(ablation, args.out, args.only)
        print((args.out / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
