"""The interface of what works on batches of jobs."""

from collections.abc import Sequence
from typing import Protocol

from .manifest import Failed, Job, Json


class Worker(Protocol):
    """Made once per process, where it loads its models; then called with one batch after another."""

    def __call__(self, jobs: Sequence[Job]) -> list[Json | Failed]:
        """Returns a result for each job, in order. Files that a result names are complete by then."""
