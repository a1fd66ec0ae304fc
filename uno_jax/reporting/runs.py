"""Directories that the command line names -> what each holds: an evaluation, a training run, or both."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from uno_jax.reporting.evaluations import Evaluation, ReportError, finite, printable, read_evaluation
from uno_jax.support.json_files import JsonError, check_fields, parse_json

FILES = ("scores.json", "metrics.jsonl")


class Series(NamedTuple):
    """One metric: its values (NaN: not finite) at the steps that logged it."""

    steps: np.ndarray
    values: np.ndarray


class Training(NamedTuple):
    """The metrics of a training run by name."""

    metrics: dict[str, Series]
    last_step: int
    note: str = ""
    sheets: tuple[Path, ...] = ()
    """What it drew while it trained, in the order of the steps."""


class Run(NamedTuple):
    """`name` is as much of the path's end as distinguishes it from the other runs."""

    name: str
    evaluation: Evaluation | None
    training: Training | None


def read_runs(paths: Sequence[Path], data: Path | None = None) -> list[Run]:
    """Every run; all evaluations are of one suite.

    Raises ReportError or OSError naming the run.
    """
    for path in paths:
        if not any((path / name).is_file() for name in FILES):
            what = "no scores.json of an evaluation and no metrics.jsonl of a training run in it"
            raise ReportError(f"{path}: {what if path.is_dir() else 'no such directory'}")
    runs = []
    for name, path in zip(short_names(paths), paths, strict=True):
        evaluation = read_evaluation(path, data) if (path / FILES[0]).is_file() else None
        training = read_training(path / FILES[1]) if (path / FILES[1]).is_file() else None
        runs.append(Run(name, evaluation, training))
    check_comparable(runs)
    return runs


def short_names(paths: Sequence[Path]) -> list[str]:
    """The ends of the paths, with as many parts as distinguish them.

    Raises ReportError for a path that is named twice.
    """
    parts = [path.resolve().parts for path in paths]
    for index, each in enumerate(parts):
        if each in parts[:index]:
            raise ReportError(f"{paths[index]}: named twice")
    depth = 1
    while len({each[-depth:] for each in parts}) < len(parts):
        depth += 1
    return [printable("/".join(each[-depth:])) for each in parts]


def check_comparable(runs: Sequence[Run]) -> None:
    """Raises ReportError for evaluations of different suites or numbers of subjects."""
    found = {
        run.name: f"{run.evaluation.suite}{_per_prompt(run.evaluation)}" for run in runs if run.evaluation
    }
    if len(set(found.values())) > 1:
        suites = ", ".join(f"{name} is {suite}" for name, suite in found.items())
        raise ReportError(f"a page compares evaluations of one suite ({suites}): make a page of each")


def _per_prompt(evaluation: Evaluation) -> str:
    return f" with {evaluation.subjects} subjects" if (evaluation.subjects or 1) > 1 else ""


def read_training(path: Path) -> Training:
    """The metrics of a metrics.jsonl, whose last line may be incomplete during a run or after a kill.

    Raises ReportError for any other damage.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    found: dict[str, list[tuple[int, float]]] = {}
    step, note = 0, ""
    for index, line in enumerate(lines):
        try:
            values = printable(check_fields(parse_json(line, "line"), {"step": int}, "line"))
            step = values.pop("step")
            np.int64(step)
        except (JsonError, OverflowError):
            if index + 1 < len(lines):
                raise ReportError(
                    f"{path}, line {index + 1}: not a JSON object with a step; remove the line: {line[:60]!r}"
                ) from None
            note = f"The last line of {path} is incomplete and left out."
            break
        for name, value in values.items():
            if value is None or isinstance(value, int | float):
                known = finite(value)
                found.setdefault(name, []).append((step, math.nan if known is None else known))
    if not found:
        raise ReportError(f"{path}: no complete line yet; wait until the run has logged a step")
    series = {name: Series(*np.array(pairs, np.float64).T) for name, pairs in found.items()}
    return Training(series, step, note, tuple(sorted((path.parent / "samples").glob("step_*.png"))))
