"""Batches that are halved when memory runs out."""

import pytest
import torch

from tools.common.errors import ToolError
from tools.common.manifest import Failed, Job
from tools.common.memory import Halving, OutOfMemoryError

JOBS = [Job(f"id{number}", {"number": number}) for number in range(7)]


class Doubler:
    """Doubles numbers, at most `room` at a time."""

    def __init__(self, room: int, error: type[BaseException] = torch.OutOfMemoryError):
        self.room, self.error = room, error
        self.sizes: list[int] = []

    def __call__(self, jobs):
        self.sizes.append(len(jobs))
        if len(jobs) > self.room:
            raise self.error("no room")
        return [{"twice": 2 * job.inputs["number"]} for job in jobs]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, OutOfMemoryError, MemoryError])
def test_a_batch_is_halved_until_it_fits_and_stays_small(error):
    doubler = Doubler(2, error)
    worker = Halving(doubler)
    rows = worker(JOBS)
    assert [row.result["twice"] for row in rows] == [0, 2, 4, 6, 8, 10, 12]
    assert [row.id for row in rows] == [job.id for job in JOBS]
    worker(JOBS[:4])
    assert doubler.sizes[-2:] == [1, 1] or doubler.sizes[-2:] == [2, 2]


def test_what_fits_is_found_by_halving_once():
    doubler = Doubler(3)
    rows = Halving(doubler)([Job(f"id{number}", {"number": number}) for number in range(64)])
    assert len(rows) == 64 and doubler.sizes[:6] == [64, 32, 16, 8, 4, 2]
    assert set(doubler.sizes[6:]) == {2}


def test_one_that_is_too_large_is_counted():
    def worker(jobs):
        if any(job.id == "id1" for job in jobs):
            raise MemoryError("no room")
        return [{} for _ in jobs]

    rows = Halving(worker)(JOBS)
    assert [row.result is None for row in rows] == [False, True] + 5 * [False]
    assert "out of memory with a batch of one" in rows[1].failed


def test_a_memory_in_which_nothing_fits_ends_the_stage():
    with pytest.raises(ToolError, match="out of memory with a batch of one"):
        Halving(Doubler(0))(JOBS[:2])


def test_other_errors_are_not_swallowed():
    with pytest.raises(RuntimeError, match="no room"):
        Halving(Doubler(0, RuntimeError))(JOBS)


def test_too_few_results_are_an_error():
    with pytest.raises(ValueError):
        Halving(lambda jobs: [Failed("one only")])(JOBS)
