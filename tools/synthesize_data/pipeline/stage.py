"""What a stage is: where its inputs come from, what works on them, and which results are kept."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ...common.manifest import Failed, Job, Json, Row

if TYPE_CHECKING:
    from ..config import SynthConfig
    from .run import Run


class Worker(Protocol):
    """Made once a process, where it loads its models; then called with one batch after another."""

    def __call__(self, jobs: Sequence[Job]) -> list[Json | Failed]:
        """A result for each job, in their order. Files it names are whole before it returns."""


def keep_all(config: "SynthConfig", row: Row) -> str:
    return ""


def accept(config: "SynthConfig") -> None:
    pass


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline; the functions take the whole run and its settings."""

    name: str
    inputs: Callable[["Run"], Iterator[Json]]
    """From the kept rows of the stages before: one for every row that there should be."""
    settings: Callable[["SynthConfig"], Any]
    """Those of `config` that decide what comes out."""
    worker: Callable[["SynthConfig", Path], Worker]
    """From settings and the run's folder."""
    verdict: Callable[["SynthConfig", Row], str] = keep_all
    """Why a result is rejected, "heading: particulars"; empty when it is kept. Judged when read, so that a
    threshold can be moved without doing anything again.
    """
    batch_size: Callable[["SynthConfig"], int] = lambda config: 1024
    check: Callable[["SynthConfig"], None] = accept
    """Raises SynthesisError for settings that nothing can come of. Asked of every stage before the first
    begins.
    """
