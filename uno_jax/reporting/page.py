"""Runs -> one HTML page that needs no other file, from page.html.j2: tables, plots and pictures."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jinja2
from tqdm import tqdm

from uno_jax.reporting.evaluations import Entry, Key
from uno_jax.reporting.plots import colours, subject_plots, training_plots
from uno_jax.reporting.runs import Run
from uno_jax.reporting.tables import LABELS, evaluation_tables, shown, training_tables
from uno_jax.reporting.thumbnails import Thumbnails

LOWER_IS_BETTER = ("copied_border", "copied_layout", "scene_copied", "exchanged")
SHEET_SIDE = 1024  # pixels of a sheet of training samples, which shows several pictures
SHEETS = 6  # of a run
YES_OR_NO = ("copied_border", "copied_layout", "top1", "scene_right", "scene_copied", "exchanged")


Section = tuple[str, list[Any], list[Any]]
"""Its title, tables and plots."""


class Shown(NamedTuple):
    """A picture on a card: its index among the page's (None: it is missing) and the lines below it."""

    title: str
    picture: int | None
    lines: list[str]


class Card(NamedTuple):
    """A prompt with its references and each run's pictures; `scores` are each run's by name."""

    entry: Entry
    references: list[Shown]
    runs: list[list[Shown]]
    scores: dict[str, list[float | None]]


def render_page(runs: Sequence[Run], thumbnails: Thumbnails, before: Sequence[Section] = ()) -> str:
    """The page's HTML, with sections of another program's `before` the runs' own. Pictures are added to
    `thumbnails`, which then lists those that are missing.
    """
    cards, sheets = make_cards(runs, thumbnails), make_sheets(runs, thumbnails)
    loader = jinja2.PackageLoader("uno_jax.reporting", "")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html.j2").render(
        colours=colours(runs),
        evaluated=[run.name for run in runs if run.evaluation],
        suite=next((run.evaluation.suite for run in runs if run.evaluation), None),
        sections=[*before, *sections(runs)],
        sheets=sheets,
        cards=cards,
        scores={name: LABELS[name] for name in score_names(cards)},
        lower=LOWER_IS_BETTER,
        subjects=sorted({subject for card in cards for subject in card.entry.subjects}),
        categories=list(dict.fromkeys(card.entry.category for card in cards)),
        pictures=thumbnails.uris,
        missing=len(thumbnails.missing),
    )


def sections(runs: Sequence[Run]) -> list[Section]:
    """Each section that has any tables."""
    every = [
        ("Evaluation", evaluation_tables(runs), subject_plots(runs)),
        ("Training", training_tables(runs), training_plots(runs)),
    ]
    return [section for section in every if section[1]]


def make_sheets(runs: Sequence[Run], thumbnails: Thumbnails) -> list[Shown]:
    """What trainings drew, at up to SHEETS steps of each from the first to the last."""
    sheets = []
    for run in runs:
        found = run.training.sheets if run.training else ()
        chosen = sorted({round(i * (len(found) - 1) / (SHEETS - 1)) for i in range(SHEETS)}) if found else []
        for index in chosen:
            step = found[index].stem.removeprefix("step_").lstrip("0") or "0"
            sheets.append(Shown(f"{run.name}, step {step}", thumbnails.add(found[index], SHEET_SIDE), []))
    return sheets


def make_cards(runs: Sequence[Run], thumbnails: Thumbnails) -> list[Card]:
    """A card for each prompt (and each picture of it) that any run has."""
    evaluated = [run.evaluation for run in runs if run.evaluation]
    keys: dict[Key, Entry] = {}
    for evaluation in evaluated:
        for key, entry in evaluation.entries.items():
            # A run that does not record its references borrows another's.
            if key not in keys or not keys[key].references:
                keys[key] = entry
    return [
        make_card(entry, [each.entries.get(key) for each in evaluated], thumbnails)
        for key, entry in tqdm(keys.items(), "pictures", disable=None)
    ]


def make_card(entry: Entry, found: Sequence[Entry | None], thumbnails: Thumbnails) -> Card:
    """The card of a prompt, from its entry in each run (None: not in this run)."""
    titles = entry.subjects if len(entry.subjects) > 1 else ("",) * len(entry.references)
    references = [
        Shown(title, thumbnails.add(path), []) for title, path in zip(titles, entry.references, strict=False)
    ]
    pictures = [
        [
            Shown(each.source, thumbnails.add(each.path), score_lines(each.scores, each.verdict))
            for each in (one.pictures if one else [])
        ]
        for one in found
    ]
    judged = [one.pictures[0].scores if one else {} for one in found]
    names = dict.fromkeys(name for each in judged for name in each)
    scores = {name: [each.get(name) for each in judged] for name in names}
    return Card(entry, references, pictures, {name: each for name, each in scores.items() if any_known(each)})


def any_known(values: Sequence[float | None]) -> bool:
    return any(value is not None for value in values)


def score_names(cards: Sequence[Card]) -> list[str]:
    return list(dict.fromkeys(name for card in cards for name in card.scores))


def score_lines(scores: dict[str, float | None], verdict: str) -> list[str]:
    """The lines below a picture: its numbers, and the verdicts that are noteworthy."""
    known = {name: value for name, value in scores.items() if value is not None}
    lines = [f"{LABELS[name]} {shown(name, value)}" for name, value in known.items() if name not in YES_OR_NO]
    if verdict:
        lines.append(f"{verdict}{'' if known.get('scene_right', 1) else ' (wrong scene)'}")
    if known.get("top1") == 0:
        lines.append("not recognised")
    if known.get("placed") == 0:
        lines.append("on the wrong side")
    return lines + [LABELS[name] for name in LOWER_IS_BETTER if known.get(name)]
