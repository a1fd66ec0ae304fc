"""What a stage is: where its inputs come from, what works on them, and which results are kept."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ...common.manifest import Json, Manifest, Row
from ...common.worker import Worker
from ..config import SynthConfig


class Rows(Protocol):
    """What stages see of a run (`run.Run`): its settings and the rows of the other stages."""

    @property
    def config(self) -> SynthConfig: ...

    @property
    def folder(self) -> Path: ...

    @property
    def seconds(self) -> bool:
        """Whether pictures of second subjects take part."""

    def rows(self, stage: str) -> list[Row]:
        """The rows that are valid under the present settings."""

    def kept(self, stage: str) -> list[Row]:
        """The valid rows that were not rejected and did not fail."""

    def manifest(self, stage: str) -> Manifest: ...

    def before_seconds(self) -> "Rows":
        """The same run without pictures of second subjects."""

    def forget(self) -> None:
        """To be called when rows were added: what follows from them is computed again."""


def keep_all(config: SynthConfig, row: Row) -> str:
    return ""


def accept_all(config: SynthConfig) -> None:
    pass


def no_settings(config: SynthConfig) -> None:
    """For a stage whose results depend on its inputs alone."""


def default_batch_size(config: SynthConfig) -> int:
    return 1024


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline. Stages are sent to other processes: all functions must be picklable."""

    name: str
    inputs: Callable[[Rows], Iterator[Json]]
    """Yields the inputs of every row there should be, from the kept rows of earlier stages."""
    settings: Callable[[SynthConfig], Any]
    """The settings that decide the results."""
    worker: Callable[[SynthConfig, Path], Worker]
    """Makes a worker from settings and the run's folder."""
    verdict: Callable[[SynthConfig, Row], str] = keep_all
    """Why a result is rejected, "heading: details"; empty when it is kept. Computed when rows are read, so
    that a threshold can be moved without making rows again.
    """
    batch_size: Callable[[SynthConfig], int] = default_batch_size
    check_settings: Callable[[SynthConfig], None] = accept_all
    """Raises ToolError for settings that cannot give a result. Called for every stage before the first one
    starts.
    """
