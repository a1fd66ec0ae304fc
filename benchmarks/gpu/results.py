"""results.json: what each part found, written as soon as it is known, and the table of it.

One process writes at a time: the parts run one after another, and the command only before and after each.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import table
from uno_jax.support.atomic import atomic_write

Figure = float | int | str | bool | None
DONE, RUNNING = "done", "running"
VELOCITY = "forward.npy"  # a part's result for another one, beside results.json
FAILED = "failed"  # the column of errors that cost one row only


class Skipped(Exception):
    """A part cannot run here; the message says why."""


class Results:
    """The file results.json of a folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "results.json"

    def read(self) -> dict[str, Any]:
        """Everything recorded; an empty record before the first."""
        found: dict[str, Any] = json.loads(self.path.read_text()) if self.path.is_file() else {"parts": {}}
        return found

    def part(self, name: str) -> dict[str, Any]:
        """What a part recorded, with its list of rows."""
        found: dict[str, Any] = self.read()["parts"].get(name, {})
        return {"rows": []} | found

    def update(self, **values: Any) -> None:
        """Records values about the whole run."""
        self._write(self.read() | values)

    def update_part(self, name: str, **values: Any) -> None:
        """Records values about a part: its status, seconds, error."""
        everything = self.read()
        everything["parts"][name] = self.part(name) | values
        self._write(everything)

    def row(self, part: str, what: str, figures: Mapping[str, Figure]) -> None:
        """Adds figures to the part's row of that name, which is made when it is new."""
        rows = self.part(part)["rows"]
        row = next((row for row in rows if row["what"] == what), None)
        if row is None:
            rows.append(row := {"what": what})
        row.update(figures)
        self.update_part(part, rows=rows)

    def figure(self, part: str, what: str, name: str) -> Any:
        """One figure of a part; None where there is none."""
        rows = self.part(part)["rows"]
        return next((row.get(name) for row in rows if row["what"] == what), None)

    def _write(self, everything: dict[str, Any]) -> None:
        with atomic_write(self.path) as partial:
            partial.write_text(json.dumps(everything, indent=1) + "\n")


def title(everything: Mapping[str, Any]) -> str:
    """One line: the device and the model; on a CPU that it is a rehearsal."""
    platform, device = everything.get("platform"), everything.get("device", "device not known yet")
    model = everything.get("model", "model not known yet")
    if platform == "gpu":
        return f"{device}, model {model}"
    return f"REHEARSAL on {device}, model {model}: no time here is a GPU's"


def part_text(name: str, part: Mapping[str, Any]) -> str:
    """A part's heading, error and table."""
    lines = [f"## {name}: {part.get('status', 'not run')}, {part.get('seconds', 0):.0f} s", ""]
    if part.get("error"):
        lines += [str(part["error"]).splitlines()[-1][:300], ""]
    rows = part.get("rows", [])
    head = list(dict.fromkeys(key for row in rows for key in row if key != "what"))
    cells = [[row["what"], *(cell(row.get(key)) for key in head)] for row in rows]
    return "\n".join([*lines, table(["", *head], cells) if rows else "no figures", ""])


def cell(figure: Figure) -> str:
    """A figure with three or four digits."""
    if isinstance(figure, bool) or not isinstance(figure, float):
        return "" if figure is None else str(figure)
    if figure and abs(figure) < 1e-3:
        return f"{figure:.1e}"
    digits = 0 if abs(figure) >= 1000 else 1 if abs(figure) >= 100 else 2 if abs(figure) >= 1 else 3
    return f"{figure:.{digits}f}"


def summary(results: Results) -> str:
    """The goals that were measured, and how each part ended."""
    everything = results.read()
    lines = [f"# {title(everything)}", ""]
    goals = [
        (f"{name}: {row['what']}", f"{cell(row.get(unit))} {unit}", cell(row[f"goal_{unit}"]))
        for name, part in everything["parts"].items()
        for row in part["rows"]
        for unit in ("ms", "s")
        if row.get(f"goal_{unit}") is not None
    ]
    if goals:
        lines += [table(("goals", "measured", "goal"), goals), ""]
    ends = [
        (name, part.get("status", ""), cell(part.get("seconds")))
        for name, part in everything["parts"].items()
    ]
    return "\n".join([*lines, table(("part", "how it ended", "seconds"), ends), ""])


def write_report(results: Results) -> None:
    """Writes results.md: the summary and the tables of all parts."""
    parts = [part_text(name, part) for name, part in results.read()["parts"].items()]
    with atomic_write(results.path.with_suffix(".md")) as partial:
        partial.write_text("\n".join([summary(results), *parts]))
