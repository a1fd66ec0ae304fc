"""A batch in which some pictures cannot be read: those rows fail, and the others are worked on together."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from .manifest import Failed, Job, Json

Read = TypeVar("Read")


def read_and_work(
    jobs: Sequence[Job],
    read: Callable[[Job], Read],
    work: Callable[[list[Job], list[Read]], Sequence[Json | Failed]],
) -> list[Json | Failed]:
    """What `work` gives for the jobs that `read` could read; Failed for those where it raised OSError."""
    found: list[Read | Failed] = []
    for job in jobs:
        try:
            found.append(read(job))
        except OSError as error:
            found.append(Failed(str(error)))
    usable = [index for index, each in enumerate(found) if not isinstance(each, Failed)]
    results: list[Json | Failed] = [each if isinstance(each, Failed) else {} for each in found]
    if usable:
        worked = work([jobs[index] for index in usable], [found[index] for index in usable])
        for index, result in zip(usable, worked, strict=True):
            results[index] = result
    return results
