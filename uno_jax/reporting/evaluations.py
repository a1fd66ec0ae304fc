"""A directory with scores.json, of any suite -> its scores, and its pictures with theirs.

Files that `uno-evaluate` cannot have written raise ReportError.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from uno_jax.evaluation.toybox.cases import KINDS
from uno_jax.evaluation.toybox.page import TITLES, picture_name
from uno_jax.evaluation.toybox.scorer import NAME
from uno_jax.support.json_files import read_json

VERDICTS = ("cosine", "top1", "scene_right", "scene_copied", "exchanged", "placed")
LARGEST = 1e300  # what can still be added up and plotted
UNPRINTABLE = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\ud800-\udfff\ufffe\uffff]")
Key = tuple[Any, ...]
Row = Mapping[str, Any]


class ReportError(ValueError):
    """A run that cannot be shown; the message names it and says what to do."""


class Picture(NamedTuple):
    """One picture, its source, and its scores by name (None: unknown)."""

    source: str
    path: Path
    scores: dict[str, float | None]
    verdict: str = ""


class Entry(NamedTuple):
    """One prompt with its references and the run's pictures; the first picture is the one that is judged."""

    prompt: str
    subjects: tuple[str, ...]
    category: str
    references: list[Path]
    pictures: list[Picture]


class Score(NamedTuple):
    """A mean, its interval where there is one, and the means of parts, by "groups" or "categories"."""

    mean: float
    interval: tuple[float, float] | None = None
    parts: dict[str, dict[str, float]] = {}


class Evaluation(NamedTuple):
    """`scores` are by column ("" where a run has one only) and name; `subjects` is their number in each
    prompt, None where that differs. The same key is the same prompt in another run.
    """

    suite: str
    subjects: int | None
    settings: dict[str, Any]
    scores: dict[str, dict[str, Score]]
    entries: dict[Key, Entry]


def read_evaluation(run: Path, data: Path | None) -> Evaluation:
    """The evaluation in RUN/scores.json. `data` is the folder of DreamBooth's photos, for references that the
    run does not record or that lie elsewhere now.
    """
    path = run / "scores.json"
    record = printable(read_json(path, _unreadable))
    suite = record.get("suite") if isinstance(record, dict) else None
    if not isinstance(suite, str) or suite not in READERS:
        raise ReportError(f"{path}: suite must be one of {', '.join(READERS)}, got {suite!r}")
    try:
        return READERS[suite](run, record, data)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        if isinstance(error, ReportError):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise ReportError(f"{path}: not as `uno-evaluate --suite {suite}` writes it ({reason})") from error


def _unreadable(message: str) -> ReportError:
    return ReportError(f"{message}; if it is incomplete, run again what should have written it")


def finite(value: Any) -> float | None:
    """A number or verdict as a float; None for None, NaN, and infinite and other values beyond LARGEST."""
    return float(value) if value is not None and abs(value) <= LARGEST else None


def printable(value: Any) -> Any:
    """A JSON value, or a text, without the characters that HTML and SVG cannot hold."""
    if isinstance(value, str):
        return UNPRINTABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [printable(each) for each in value]
    if isinstance(value, dict):
        return {printable(name): printable(each) for name, each in value.items()}
    return value


def read_dreambench(run: Path, record: dict[str, Any], data: Path | None) -> Evaluation:
    record = with_judge(run, record)
    scores = {name: dreambench_score(score) for name, score in record["scores"].items()}
    folder = Path(record.get("pictures") or run)
    references = find_references(run, data)
    entries: dict[Key, Entry] = {}
    seen: Counter[Key] = Counter()
    for row in record["rows"]:
        subjects, prompt = tuple(map(str, row["subjects"])), str(row["prompt"])
        own = {name: finite(row.get(name)) for name in scores}
        picture = Picture("", folder / row["picture"], own)
        seen[prompt, subjects] += 1
        key = (prompt, subjects, seen[prompt, subjects])
        entries[key] = Entry(prompt, subjects, str(row["category"]), references(row), [picture])
    settings = {name: value for name, value in record.items() if name not in ("suite", "scores", "rows")}
    return Evaluation(record["suite"], count_subjects(entries), settings, {"": scores}, entries)


def with_judge(run: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The record with the scores of RUN/judge.json, where `uno-judge` wrote one, as judge_{score}."""
    path = run / "judge.json"
    if not path.is_file():
        return record
    judged = printable(read_json(path, _unreadable))
    found = {row["picture"]: row for row in judged["rows"]}
    if any(found.get(row["picture"], {}).get("prompt") != row["prompt"] for row in record["rows"]):
        raise ReportError(f"{path} judges other pictures than scores.json has: run uno-judge again")
    part = "categories" if record["suite"] == "list" else "groups"
    scores = {
        f"judge_{name}": {"mean": score["mean"], part: score["groups"]}
        for name, score in judged["scores"].items()
    }
    rows = [
        row | {f"judge_{name}": found[row["picture"]].get(name) for name in judged["scores"]}
        for row in record["rows"]
    ]
    return record | {"scores": record["scores"] | scores, "rows": rows}


def dreambench_score(score: Mapping[str, Any]) -> Score:
    interval = None
    if "interval" in score:
        low, high = map(float, score["interval"])
        interval = low, high
    parts = {
        part: {name: float(mean) for name, mean in score[part].items()}
        for part in ("groups", "categories")
        if part in score
    }
    return Score(float(score["mean"]), interval, parts)


def count_subjects(entries: Mapping[Key, Entry]) -> int | None:
    """The number of subjects in each prompt; None where it differs."""
    counts = {len(entry.subjects) for entry in entries.values()}
    return counts.pop() if len(counts) == 1 else None


def find_references(run: Path, data: Path | None) -> Callable[[Row], list[Path]]:
    """A function from a row to its references, by the list that was drawn; in `data` when that is given."""
    path = run / "prompts.json"
    listed = printable(read_json(path, _unreadable)) if path.is_file() else []

    def references(row: Row) -> list[Path]:
        index = int(row["picture"].split("_")[0])
        if index >= len(listed) or listed[index]["prompt"] != row["prompt"]:
            return []
        found = [Path(each) for each in listed[index]["image_paths"]]
        return [data / each.parent.name / each.name for each in found] if data else found

    return references


def read_toybox(run: Path, record: dict[str, Any], data: Path | None) -> Evaluation:
    scores = {
        f"{kind}, {TITLES[source]}": {
            name: Score(float(value)) for name, value in record[NAME][kind][source].items()
        }
        for kind in KINDS
        if kind in record[NAME]
        for source in TITLES
        if source in record[NAME][kind]
    }
    if not scores:
        raise ReportError(f"{run / 'scores.json'}: {NAME} has none of {', '.join(KINDS)}")
    entries = toybox_entries(run, record["rows"])
    settings = {name: value for name, value in record.items() if name not in ("suite", NAME, "rows")}
    return Evaluation("toybox", None, settings, scores, entries)


def toybox_entries(run: Path, rows: list[Row]) -> dict[Key, Entry]:
    entries: dict[Key, Entry] = {}
    seen: Counter[Key] = Counter()
    for row in rows:
        kind, index, prompt = row["kind"], int(row["index"]), str(row["prompt"])
        references = [run / picture_name(kind, index, f"ref{n}") for n in range(1, KINDS[kind] + 1)]
        pictures = []
        for source in (each for each in TITLES if each in row):
            verdict = row[source]
            own = {name: finite(verdict[name]) for name in VERDICTS if name in verdict}
            path = run / picture_name(kind, index, source)
            pictures.append(Picture(TITLES[source], path, own, str(verdict.get("scene", ""))))
        seen[kind, prompt] += 1
        key = (kind, prompt, seen[kind, prompt])
        entries[key] = Entry(prompt, tuple(map(str, row["subjects"])), kind, references, pictures)
    return entries


def group_means(evaluation: Evaluation, name: str) -> dict[str, float]:
    """A score's mean for each subject or group: as recorded, or over the judged pictures of one subject."""
    for scores in evaluation.scores.values():
        if name in scores and "groups" in scores[name].parts:
            return scores[name].parts["groups"]
    found: dict[str, list[float]] = {}
    for entry in evaluation.entries.values():
        value = entry.pictures[0].scores.get(name)
        if value is not None and len(entry.subjects) == 1:
            found.setdefault(entry.subjects[0], []).append(value)
    return {subject: float(np.mean(values)) for subject, values in found.items()}


READERS: dict[str, Callable[[Path, dict[str, Any], Path | None], Evaluation]] = {
    "toybox": read_toybox,
    "dreambench-single": read_dreambench,
    "dreambench-multi": read_dreambench,
    "list": read_dreambench,
}
