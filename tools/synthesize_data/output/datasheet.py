"""What a data set holds and where it came from: RUN/export/datasheet.json and datasheet.md."""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..pipeline.import_lists import pairs
from ..pipeline.lineage import Sample
from ..stages import order

if TYPE_CHECKING:
    from ..pipeline.run import Run

BINS = {"cosine": [i / 20 for i in range(21)], "score": [0, 1, 2, 2.5, 3, 3.5, 4]}
# UNO's paper, appendix F: shares of the final scores before anything is rejected; the last bin is 4 itself.
PAPER_SCORES = {"[2, 2.5)": 0.087, "[2.5, 3)": 0.13, "[3, 3.5)": 0.235, "[3.5, 4)": 0.127, "4": 0.354}


def write_datasheet(run: "Run", lists: dict[str, list[Sample]], duplicates: int) -> None:
    """Counts, thresholds, settings, score histograms and the licences that were told."""
    sheet = {
        "samples": {name: len(samples) for name, samples in lists.items()},
        "subjects": {
            name: len({s for sample in samples for s in sample.subjects}) for name, samples in lists.items()
        },
        "near_duplicates_removed": duplicates,
        "imported": dict(Counter(row.inputs["source"] for row in pairs(run))),
        "funnel": {name: count(run, name) for name in order.STAGES if run.stored(name)},
        "cosines": histogram(results(run, "filter-dino", "cosine"), BINS["cosine"]),
        "scores": histogram(results(run, "filter-vlm", "score"), BINS["score"]),
        "licences": list(run.config.export.licences),
        "settings": dataclasses.asdict(run.config),
    }
    folder = run.folder / "export"
    put(folder / "datasheet.json", json.dumps(sheet, indent=1, ensure_ascii=False) + "\n")
    put(folder / "datasheet.md", markdown(sheet))


def results(run: "Run", stage: str, name: str) -> list[float]:
    return [row.result[name] for row in run.rows(stage) if row.result is not None]


def count(run: "Run", stage: str) -> dict[str, Any]:
    """Rows, kept ones, and the others by the heading of the reason: what stands before its colon."""
    verdicts = [run.verdict(stage, row) for row in run.rows(stage)]
    reasons = Counter(verdict.partition(":")[0] for verdict in verdicts if verdict)
    return {"rows": len(verdicts), "kept": verdicts.count(""), "left out": dict(reasons.most_common())}


def histogram(values: Sequence[float], edges: Sequence[float]) -> dict[str, int]:
    """Counts by half-open bins; the last edge has a bin of its own."""
    bins = [f"[{low:g}, {high:g})" for low, high in zip(edges, edges[1:], strict=False)] + [f"{edges[-1]:g}"]
    counts = dict.fromkeys(bins, 0)
    for value in values:
        counts[bins[sum(value >= edge for edge in edges[1:])]] += 1
    return counts


def markdown(sheet: dict[str, Any]) -> str:
    lines = ["# Datasheet", "", "| list | samples | subjects |", "|---|---|---|"]
    lines += [f"| {name} | {total} | {sheet['subjects'][name]} |" for name, total in sheet["samples"].items()]
    lines += ["", f"{sheet['near_duplicates_removed']} near-duplicate targets were left out.", ""]
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
    lines += ["", "Licences of the models used: " + ("; ".join(sheet["licences"]) or "none were told"), ""]
    lines += [
        "Settings:",
        "",
        "```json",
        json.dumps(sheet["settings"], indent=1, ensure_ascii=False),
        "```",
        "",
    ]
    return "\n".join(lines)


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)
