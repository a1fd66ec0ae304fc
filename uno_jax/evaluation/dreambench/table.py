"""What scores.json holds -> lines to print, and one table of several resolutions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uno_jax.support.atomic import atomic_write
from uno_jax.support.words import counted

WITHIN = "95 % of resampled subjects"
Record = dict[str, Any]


def score_lines(record: Record) -> list[str]:
    """The resolution of a run's pictures, and a line for each score."""
    lines = [f"{record['suite']}, {counted(record['prompts'], 'prompt')}, at {record['resolution']}"]
    for name, score in record["scores"].items():
        low, high = score["interval"]
        lines.append(f"{name} {score['mean']:.4f} ({WITHIN}: {low:.4f} to {high:.4f})")
    return lines


def write_table(out: Path, records: Sequence[Record]) -> list[str]:
    """Writes OUT/table.md, Markdown with a column for each run's resolution; returns its lines."""
    first = records[0]
    heads = ["", *(record["resolution"] for record in records)]
    lines = [
        f"{first['suite']}, {counted(first['prompts'], 'prompt')}, by the pictures' resolution ({WITHIN})",
        "",
        *(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads))),
    ]
    for name in dict.fromkeys(name for record in records for name in record["scores"]):
        cells = [cell(record["scores"].get(name)) for record in records]
        lines.append(f"| {' | '.join([name, *cells])} |")
    with atomic_write(out / "table.md") as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return lines


def cell(score: Record | None) -> str:
    if score is None:
        return ""
    low, high = score["interval"]
    return f"{score['mean']:.4f} ({low:.4f} to {high:.4f})"
