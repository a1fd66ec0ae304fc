"""Batches that do not fit into memory are halved until they do."""

from collections.abc import Sequence

from .errors import ToolError
from .manifest import Failed, Job, Row, make_row
from .worker import Worker


class OutOfMemoryError(RuntimeError):
    """A batch was too large for the memory; named as torch's error."""


def is_out_of_memory(error: Exception) -> bool:
    return type(error).__name__ in ("OutOfMemoryError", "MemoryError")


class Halving:
    """A worker whose batches are halved when memory runs out, and stay small from then on."""

    def __init__(self, worker: Worker):
        self.worker = worker
        self.limit = 0
        self.did_any = False

    def __call__(self, jobs: Sequence[Job]) -> list[Row]:
        rows: list[Row] = []
        while len(rows) < len(jobs):
            rows += self.work_on(jobs[len(rows) :][: self.limit or None])
        return rows

    def work_on(self, jobs: Sequence[Job]) -> list[Row]:
        """Returns the rows of all jobs, or none when there were too many.

        Raises ToolError when not even the first single job fits: then the job is not what is too large.
        """
        try:
            results = self.worker(jobs)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(jobs) == 1:
                why = f"out of memory with a batch of one: {error}"
                if not self.did_any:
                    raise ToolError(why) from None
                return [make_row(jobs[0].id, jobs[0].inputs, Failed(why))]
            self.limit = len(jobs) // 2
            return []
        self.did_any = True
        return [make_row(job.id, job.inputs, result) for job, result in zip(jobs, results, strict=True)]
