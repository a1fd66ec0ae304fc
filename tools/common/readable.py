"""Batches with unreadable files: those rows fail, and the others are worked on together."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from .manifest import Failed, Job, Json

Read = TypeVar("Read")


def read_and_work(
    jobs: Sequence[Job],
    read: Callable[[Job], Read],
    work: Callable[[list[Job], list[Read]], Sequence[Json | Failed]],
) -> list[Json | Failed]:
    """Returns the results of `work` for the jobs that `read` could read, Failed where it raised OSError."""
    results: list[Json | Failed] = []
    usable: list[int] = []
    contents: list[Read] = []
    for index, job in enumerate(jobs):
        try:
            contents.append(read(job))
            usable.append(index)
            results.append({})
        except OSError as error:
            results.append(Failed(str(error)))
    if usable:
        worked = work([jobs[index] for index in usable], contents)
        for index, result in zip(usable, worked, strict=True):
            results[index] = result
    return results
