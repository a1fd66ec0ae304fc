"""Runs -> plots as data URIs of SVG, by matplotlib: scores by subject, and training curves.

They have a phone's width, so that their letters can be read there; wider screens show them side by side.
"""

import base64
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from uno_jax.reporting.evaluations import ReportError, group_means
from uno_jax.reporting.runs import Run, Series
from uno_jax.reporting.tables import LABELS, paper_figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 4.0  # inches of 96 CSS pixels
# Text stays text, and the same numbers give the same bytes.
STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names may have dollar signs
    "svg.hashsalt": "uno_jax",
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}
# Matplotlib's own but two that are hard to distinguish from others; the ninth run has the first's.
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf")
BY_SUBJECT = ("dino", "clip_i", "clip_t", "cosine")
LOGARITHMIC = ("loss", "grad_norm")  # where the largest value is over SPAN times the smallest
SPAN = 5
SMOOTH = 40  # number of windows of the running mean in a curve
UNITS = {
    "images_per_second": "images/s",
    "mfu": "MFU",
    "learning_rate": "learning rate",
    "grad_norm": "gradient norm",
    "skipped": "skipped steps",
    "bad_records": "records left out",
}


class Plot(NamedTuple):
    """A plot as a data URI."""

    title: str
    uri: str


def colours(runs: Sequence[Run]) -> dict[str, str]:
    """Each run's colour, the same all over the page."""
    return {run.name: COLOURS[index % len(COLOURS)] for index, run in enumerate(runs)}


def check_matplotlib() -> None:
    """Raises ReportError when matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ReportError(f"plots need matplotlib: pip install 'uno_jax[report]' ({error})") from None


def draw_plot(title: str, height: float, paint: Callable[["Axes"], None]) -> Plot:
    """The plot that `paint` draws on the axes of a figure of `height` inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        paint(figure.subplots())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return Plot(title, f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}")


def subject_plots(runs: Sequence[Run]) -> list[Plot]:
    """A plot for each score: subjects (or groups) sorted by the first run, the paper's mean dashed."""
    evaluations = {run.name: run.evaluation for run in runs if run.evaluation}
    plots: list[Plot] = []
    if any(each.suite == "list" for each in evaluations.values()):
        return plots  # its subjects are not in several entries
    for score in BY_SUBJECT:
        found = {name: group_means(evaluation, score) for name, evaluation in evaluations.items()}
        means = {name: means for name, means in found.items() if means}
        if means:
            paper = paper_figures(next(iter(evaluations.values()))).get("paper, final", {}).get(score)
            plots.append(by_subject(LABELS[score], means, paper, colours(runs)))
    return plots


def by_subject(
    title: str, means: dict[str, dict[str, float]], paper: float | None, colour: dict[str, str]
) -> Plot:
    first = next(iter(means.values()))
    every = dict.fromkeys(subject for found in means.values() for subject in found)
    order = sorted(every, key=lambda subject: first.get(subject, -np.inf))

    def paint(axes: "Axes") -> None:
        for name, found in means.items():
            rows = [row for row, subject in enumerate(order) if subject in found]
            values = [found[order[row]] for row in rows]
            axes.plot(values, rows, "o", color=colour[name], label=name, markersize=4.5, alpha=0.85)
        if paper is not None:
            axes.axvline(paper, color="dimgrey", linestyle="--", linewidth=1, label="paper, final")
        axes.set_yticks(range(len(order)), order, fontsize=7)
        axes.set_ylim(-0.7, len(order) - 0.3)
        name_lines(axes)

    return draw_plot(f"{title} by subject", 0.9 + 0.17 * len(order), paint)


def training_plots(runs: Sequence[Run]) -> list[Plot]:
    """A plot for each metric that is not zero throughout, with a curve for each run."""
    series: dict[str, dict[str, Series]] = {}
    for name, training in ((run.name, run.training) for run in runs if run.training):
        for metric, found in training.metrics.items():
            series.setdefault(metric, {})[name] = found
    first = [metric for metric in ("loss", "grad_norm") if metric in series]
    metrics = [*first, *(metric for metric in series if metric not in first)]
    return [
        curves(metric, series[metric], colours(runs))
        for metric in metrics
        if any(np.nan_to_num(each.values).any() for each in series[metric].values())
    ]


def curves(metric: str, series: dict[str, Series], colour: dict[str, str]) -> Plot:
    """Each run's values as logged (faint) and their running mean (strong)."""
    from matplotlib.ticker import LogLocator

    def paint(axes: "Axes") -> None:
        for name, (steps, values) in series.items():
            window = max(1, len(values) // SMOOTH)
            if window > 1:
                axes.plot(steps, values, color=colour[name], linewidth=0.7, alpha=0.25)
            marker = "o" if len(values) == 1 else None
            axes.plot(
                steps, smooth(values, window), color=colour[name], linewidth=1.4, label=name, marker=marker
            )
        every = np.concatenate([each.values for each in series.values()])
        if metric in LOGARITHMIC and np.nanmax(every) > SPAN * np.nanmin(every) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
        axes.set_xlabel("step")
        name_lines(axes)

    return draw_plot(UNITS.get(metric, metric), 2.6, paint)


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of the finite ones among the `window` values around each; NaN stays NaN."""
    known = np.isfinite(values)
    ones = np.ones(window)
    sums = np.convolve(np.where(known, values, 0), ones, "same")
    return np.where(known, sums / np.maximum(np.convolve(known, ones, "same"), 1), np.nan)


def name_lines(axes: "Axes") -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=1, borderaxespad=0.2)
