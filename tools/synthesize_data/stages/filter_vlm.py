"""Stage 8: pairs that passed the first filter -> a score of the subject's likeness, part by part."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...common.manifest import Json, Row
from ...language_models import questions
from ..config import SynthConfig
from ..pipeline.stage import Stage, Worker
from ..text import prompts

if TYPE_CHECKING:
    from ..pipeline.run import Run


def inputs(run: "Run") -> Iterator[Json]:
    for row in run.kept("filter-dino"):
        pair = {name: row.inputs[name] for name in ("kind", "first", "second", "subject")}
        yield {"parent": row.id, **pair}


def settings(config: SynthConfig) -> Any:
    if config.filter_vlm.backend == "features":
        return ["features"]
    return ["model", config.filter_vlm.model, prompts.PARTS, prompts.DIFFERENCES, prompts.SCORES]


def worker(config: SynthConfig, folder: Path) -> Worker:
    if config.filter_vlm.backend == "features":
        from ..judges.feature_judge import FeatureJudge

        return FeatureJudge(config, folder)
    from ..judges.vlm_judge import VlmJudge

    return VlmJudge(config, folder)


def check(config: SynthConfig) -> None:
    """Raises SynthesisError for a judge that cannot be asked."""
    if config.filter_vlm.backend == "model":
        questions.check(config.filter_vlm.model, "filter_vlm.model")


def verdict(config: SynthConfig, row: Row) -> str:
    score, threshold = (row.result or {})["score"], config.filter_vlm.threshold
    return f"parts differ: mean score {score:.2f} is below {threshold:g}" if score < threshold else ""


STAGE = Stage(
    "filter-vlm", inputs, settings, worker, verdict, lambda config: config.filter_vlm.batch_size, check
)
