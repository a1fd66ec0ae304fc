"""Rounds after another, each from the best model so far, and the table of those that are finished.

OUT/round_N has a folder for each step with its record beside it, OUT/table.json, table.md and index.html the
results.
"""

from pathlib import Path

from uno_jax.coevolution.config import Coevolution
from uno_jax.coevolution.page import write_page
from uno_jax.coevolution.rounds import Model, Round, evaluate, run_round
from uno_jax.coevolution.table import Result, round_result, write_table


def run_coevolution(config: Coevolution, out: Path) -> None:
    """Does what is missing, round by round, and writes the table and the page after each.

    Raises RecipeError when a program fails or a finished step has other settings.
    """
    best, rounds, results = Model("base", ""), list[Round](), list[Result]()
    evaluate(config, best, out / "base", out)
    for number in range(1, config.rounds + 1):
        rounds.append(run_round(config, number, best, out))
        results.append(round_result(config, rounds[-1]))
        best = better_model(config, rounds, results)
        write_table(config, results, best.name, out)
        write_page(config, rounds, results, out)


def better_model(config: Coevolution, rounds: list[Round], results: list[Result]) -> Model:
    """The model of the round whose score `better` is highest; of equals the later one."""
    values = [result.scores[config.better].value for result in results]
    return rounds[max(range(len(values)), key=lambda at: (values[at], at))].model
