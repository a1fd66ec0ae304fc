"""Evaluations and training runs -> one HTML page that needs no other file.

A run is a directory that `uno-evaluate` (scores.json and pictures) or `uno-train` (metrics.jsonl) wrote.
Several stand side by side; evaluations must be of one suite.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from uno_jax.reporting.evaluations import ReportError
from uno_jax.reporting.page import Section, render_page
from uno_jax.reporting.plots import check_matplotlib
from uno_jax.reporting.runs import Run, read_runs
from uno_jax.reporting.thumbnails import Thumbnails
from uno_jax.support.atomic import atomic_write, check_output
from uno_jax.support.bounds import Bounds
from uno_jax.support.folder_lock import locked_path


@dataclass(frozen=True)
class ReportArgs:
    """Show evaluations and training runs as one HTML page: tables, plots and pictures."""

    runs: Positional[tuple[Path, ...]]
    """Directories with scores.json or metrics.jsonl."""
    out: Path = Path("out/report.html")
    """File of the page."""
    data: Path | None = None
    """DreamBooth's `dataset` folder, for references that a run does not name or that lie elsewhere now."""
    thumbnail: Annotated[int, Bounds(16, 4_096)] = 192
    """Longest side of the pictures in pixels. A picture of 192 pixels takes about 10 KB."""


def write_report(args: ReportArgs) -> Thumbnails:
    """Writes the page; returns its pictures.

    Raises ReportError or OSError saying what to change.
    """
    if not args.runs:
        raise ReportError("name at least one RUN: a directory with scores.json or metrics.jsonl")
    check_output("--out", args.out)
    if args.data and not args.data.is_dir():
        raise ReportError(
            f"no folder {args.data}: --data is DreamBooth's dataset, with a folder for each subject"
        )
    check_matplotlib()
    with locked_path(args.out):
        thumbnails = Thumbnails(args.thumbnail)
        write_runs(args.out, read_runs(args.runs, args.data), thumbnails)
    return thumbnails


def write_runs(
    out: Path, runs: Sequence[Run], thumbnails: Thumbnails, before: Sequence[Section] = ()
) -> None:
    """Writes the page of runs, with sections of another program's before their own."""
    page = render_page(runs, thumbnails, before)
    with atomic_write(out) as partial:
        partial.write_text(page, encoding="utf-8", errors="replace")
