"""Stage 8: pairs that passed the first filter -> a score of how alike the subject is, part by part."""

from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

from ...common.manifest import Json, Row, result_of
from ...common.packages import check_packages
from ...common.worker import Worker
from ...language_models.load import check_model_config
from ..config import SynthConfig
from ..judges.feature_judge import FeatureJudge
from ..judges.features import EFFICIENTNET_PACKAGES
from ..judges.vlm_judge import VlmJudge
from ..pipeline.stage import Rows, Stage
from ..text import prompts


def inputs(run: Rows) -> Iterator[Json]:
    for row in run.kept("filter-dino"):
        pair = {name: row.inputs[name] for name in ("kind", "first", "second", "subject")}
        yield {"parent": row.id, **pair}


def settings(config: SynthConfig) -> Any:
    if config.filter_vlm.backend == "features":
        return ["features"]
    return ["model", config.filter_vlm.model, prompts.PARTS, prompts.DIFFERENCES, prompts.SCORES]


def worker(config: SynthConfig, folder: Path) -> Worker:
    if config.filter_vlm.backend == "features":
        return FeatureJudge(config, folder)
    return VlmJudge(config, folder)


def check_settings(config: SynthConfig) -> None:
    """Raises ToolError for a judge that cannot be queried."""
    if config.filter_vlm.backend == "features":
        check_packages("filter_vlm.backend features", *EFFICIENTNET_PACKAGES)
    if config.filter_vlm.backend == "model":
        check_model_config(config.filter_vlm.model, "filter_vlm.model")


def verdict(config: SynthConfig, row: Row) -> str:
    score, threshold = result_of(row)["score"], config.filter_vlm.threshold
    return f"parts differ: mean score {score:.2f} is below {threshold:g}" if score < threshold else ""


STAGE = Stage(
    "filter-vlm", inputs, settings, worker, verdict, attrgetter("filter_vlm.batch_size"), check_settings
)
