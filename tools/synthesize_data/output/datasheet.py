"""Contents and origin of a data set: RUN/export/datasheet.json and datasheet.md."""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uno_jax.support.atomic import atomic_write
from uno_jax.support.words import counted

from ..pipeline.import_lists import imported_pairs
from ..pipeline.lineage import Sample
from ..pipeline.run import Run

BINS = {"cosine": [i / 20 for i in range(21)], "score": [0, 1, 2, 2.5, 3, 3.5, 4]}
# UNO's paper, appendix F: distribution of the final scores before any rejection; the last bin is exactly 4.
PAPER_SCORES = {"[2, 2.5)": 0.087, "[2.5, 3)": 0.13, "[3, 3.5)": 0.235, "[3.5, 4)": 0.127, "4": 0.354}


def write_datasheet(run: Run, lists: dict[str, list[Sample]], duplicates: int) -> None:
    """Writes counts, thresholds, settings, score histograms and the given licences."""
    sheet = {
        "samples": {name: len(samples) for name, samples in lists.items()},
        "subjects": {
            name: len({s for sample in samples for s in sample.subjects}) for name, samples in lists.items()
        },
        "near_duplicates_removed": duplicates,
        "imported": dict(Counter(row.inputs["source"] for row in imported_pairs(run))),
        "funnel": {name: stage_counts(run, name) for name in run.stages if run.stored(name)},
        "cosines": histogram(stage_results(run, "filter-dino", "cosine"), BINS["cosine"]),
        "scores": histogram(stage_results(run, "filter-vlm", "score"), BINS["score"]),
        "licences": list(run.config.export.licences),
        "settings": dataclasses.asdict(run.config),
    }
    folder = run.folder / "export"
    write_text(folder / "datasheet.json", json.dumps(sheet, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / "datasheet.md", markdown(sheet))


def stage_results(run: Run, stage: str, name: str) -> list[float]:
    return [row.result[name] for row in run.rows(stage) if row.result is not None]


def stage_counts(run: Run, stage: str) -> dict[str, Any]:
    """Numbers of rows, of kept rows, and of the others by the heading of their reason (before its colon)."""
    verdicts = [run.verdict(stage, row) for row in run.rows(stage)]
    reasons = Counter(verdict.partition(":")[0] for verdict in verdicts if verdict)
    return {"rows": len(verdicts), "kept": verdicts.count(""), "left out": dict(reasons.most_common())}


def histogram(values: Sequence[float], edges: Sequence[float]) -> dict[str, int]:
    """Counts in half-open bins; the last edge has its own bin."""
    bins = [f"[{low:g}, {high:g})" for low, high in zip(edges, edges[1:], strict=False)] + [f"{edges[-1]:g}"]
    counts = dict.fromkeys(bins, 0)
    for value in values:
        counts[bins[sum(value >= edge for edge in edges[1:])]] += 1
    return counts


def markdown(sheet: dict[str, Any]) -> str:
    lines = ["# Datasheet", "", "| list | samples | subjects |", "|---|---|---|"]
    lines += [f"| {name} | {total} | {sheet['subjects'][name]} |" for name, total in sheet["samples"].items()]
    lines += ["", f"Removed {counted(sheet['near_duplicates_removed'], 'near-duplicate target')}.", ""]
    if sheet["imported"]:
        lines += ["| pairs imported from | usable |", "|---|---|"]
        lines += [*(f"| {source} | {total} |" for source, total in sheet["imported"].items()), ""]
    lines += ["| stage | rows | kept | left out |", "|---|---|---|---|"]
    for name, found in sheet["funnel"].items():
        reasons = "; ".join(f"{reason}: {times}" for reason, times in found["left out"].items())
        lines.append(f"| {name} | {found['rows']} | {found['kept']} | {reasons} |")
    lines += ["", "| score | pairs | share in UNO's paper |", "|---|---|---|"]
    for name, times in sheet["scores"].items():
        paper = f"{PAPER_SCORES[name]:.1%}" if name in PAPER_SCORES else ""
        lines.append(f"| {name} | {times} | {paper} |")
    lines += ["", "| cosine | pairs |", "|---|---|"]
    lines += [f"| {name} | {times} |" for name, times in sheet["cosines"].items() if times]
    lines += ["", "Licences of the models used: " + ("; ".join(sheet["licences"]) or "none were given"), ""]
    lines += [
        "Settings:",
        "",
        "```json",
        json.dumps(sheet["settings"], indent=1, ensure_ascii=False),
        "```",
        "",
    ]
    return "\n".join(lines)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        # Half of a character, which a model may write, is no UTF-8: it becomes its escape, as in JSON.
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
