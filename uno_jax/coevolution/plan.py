"""`uno-coevolve --plan h100:8`: the steps of every round with their pictures, samples and operations.
Nothing is made, loaded or compiled.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from uno_jax.coevolution.config import Coevolution
from uno_jax.coevolution.rounds import synthesis_arguments
from uno_jax.costs.devices import find_chips
from uno_jax.costs.program import work_line
from uno_jax.sampling.plan import picture_operations
from uno_jax.support.errors import RecipeError
from uno_jax.support.json_files import parse_json
from uno_jax.support.tools_package import installed_name
from uno_jax.training.config import TrainConfig
from uno_jax.training.plan import step_operations
from uno_jax.weights.names import model_dir

SHARE = 0.5  # of the peak
COLUMNS = ("step", "at most", "TFLOP each", "TFLOP", "hours at 50 % of the peak")
LAST_OF_SINGLES = "filter-vlm"  # stages after it come with the second references


class Planned(NamedTuple):
    """A line of the plan: how many rows, pictures or samples there are at most, and the operations of each
    where one of uno_jax's models does them.
    """

    step: str
    number: int
    operations: int | None = None


def plan_coevolution(config: Coevolution, where: str, out: Path) -> None:
    """Prints the plan of every step on the hardware `where`.

    Raises PlanError for unknown hardware, RecipeError or ValueError for settings that cannot work.
    """
    chip, chips = find_chips(where)
    model = config.model if model_dir(config.model).is_dir() else config.stage1.preset
    print(f"{where}: {chips} {chip.name}, drawing with {model}; rows as if every one of them were kept")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    total = 0
    for line in planned_steps(config, model, out):
        work = line.number * (line.operations or 0)
        total += work
        hours = work / (SHARE * chip.peak * 1e12 * chips) / 3600 if chip.peak else None
        each = f"{line.operations / 1e12:,.2f}" if line.operations else ""
        cells = [line.step, f"{line.number:,}", each, f"{work / 1e12:,.0f}" if work else ""]
        print(f"| {' | '.join([*cells, f'{hours:,.2f}' if hours and work else ''])} |", flush=True)
    print(f"all: {work_line(total, chip, chips)}")
    print("Steps without operations are other models', or hardly take any.")


def planned_steps(config: Coevolution, model: str, out: Path) -> Iterator[Planned]:
    """The steps of every round, in their order."""
    drawn: dict[tuple[int, ...], int] = {}

    def drawing(row: dict[str, Any]) -> int | None:
        if "references" not in row:
            return None
        shape = tuple(row[name] for name in ("width", "height", "steps", "references"))
        if shape not in drawn:
            drawn[shape] = picture_operations(model, *shape)
        return drawn[shape]

    steps = {
        "stage I": training_line("stage I", config.stage1, 1),
        "stage II": training_line("stage II", config.stage2, 2),
    }
    evaluations = ", ".join(config.evaluations)
    for number in range(1, config.rounds + 1):
        name = f"round {number}"
        rows = synthesis_rows(config, number, out)
        lines = [Planned(f"{name}: {row['stage']}", row["rows"], drawing(row)) for row in rows]
        cut = 1 + [row["stage"] for row in rows].index(LAST_OF_SINGLES)
        yield from lines[:cut]
        yield steps["stage I"]._replace(step=f"{name}: {steps['stage I'].step}")
        yield from lines[cut:]
        yield steps["stage II"]._replace(step=f"{name}: {steps['stage II'].step}")
        yield Planned(f"{name}: evaluations {evaluations}", config.pictures)


def training_line(name: str, recipe: TrainConfig, refs: int) -> Planned:
    """A training's steps, each of a batch."""
    return Planned(
        f"{name}, steps of {recipe.batch_size} samples", recipe.steps, step_operations(recipe, refs)
    )


def synthesis_rows(config: Coevolution, number: int, out: Path) -> list[dict[str, Any]]:
    """What `uno-synthesize plan` says of a round.

    Raises RecipeError with its error.
    """
    folder = out / f"round_{number}"
    words = synthesis_arguments(config, number, "none", folder)
    command = [sys.executable, "-m", installed_name("tools.synthesize_data"), "plan", *words]
    ran = subprocess.run([*command, "--run", str(folder / "pairs")], capture_output=True, text=True)
    if ran.returncode:
        raise RecipeError(f"round {number}, pairs: {ran.stderr.strip().splitlines()[-1]}")
    rows: list[dict[str, Any]] = parse_json(ran.stdout, "uno-synthesize plan", RecipeError)
    return rows
