"""Both engines give the same rows; memory that runs out halves batches; a lost Ray worker loses nothing."""

import dataclasses
import os
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from tools.synthesize_data.config import FilterDinoConfig, RayConfig, SynthConfig
from tools.synthesize_data.engine import Halving, OutOfMemoryError, work
from tools.synthesize_data.rows import Failed, Job, SynthesisError
from tools.synthesize_data.stages import STAGES

JOBS = [Job(f"id{number}", {"number": number}) for number in range(7)]
RAY = SynthConfig(engine="ray", ray=RayConfig(actors=2, object_store_mb=100))


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
    with pytest.raises(SynthesisError, match="out of memory with a batch of one"):
        Halving(Doubler(0))(JOBS[:2])


def test_a_model_that_does_not_fit_is_told():
    def worker(config, folder):
        raise torch.OutOfMemoryError("40 GiB wanted")

    stage = dataclasses.replace(STAGES["hashes"], worker=worker)
    with pytest.raises(SynthesisError, match="hashes: its model does not fit into the memory: 40 GiB wanted"):
        next(work(stage, SynthConfig(), Path(), JOBS))


def test_other_errors_are_not_swallowed():
    with pytest.raises(RuntimeError, match="no room"):
        Halving(Doubler(0, RuntimeError))(JOBS)


def test_too_few_results_are_an_error():
    with pytest.raises(ValueError):
        Halving(lambda jobs: [Failed("one only")])(JOBS)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> tuple[Path, list[Job]]:
    """A folder of noise pictures, one of them torn, and a hashing job for each."""
    folder = tmp_path_factory.mktemp("pictures")
    rng, jobs = np.random.default_rng(0), []
    for number in range(40):
        small = Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8))
        small.resize((512, 512)).save(folder / f"{number}.png")
        jobs.append(Job(f"id{number}", {"picture": f"{number}.png"}))
    (folder / "7.png").write_bytes((folder / "7.png").read_bytes()[:1000])
    return folder, jobs


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    ray.init(num_cpus=2, object_store_memory=100 * 2**20, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def rows_of(config: SynthConfig, folder: Path, jobs: list[Job]) -> dict:
    return {row.id: row for rows in work(STAGES["hashes"], config, folder, jobs) for row in rows}


@pytest.mark.slow
def test_ray_and_one_process_agree(pictures, cluster):
    here, there = rows_of(SynthConfig(), *pictures), rows_of(RAY, *pictures)
    assert here == there and len(here) == 40
    assert "7.png is no readable picture" in here["id7"].failed
    assert len({row.result["phash"] for row in here.values() if row.result}) == 39


@pytest.mark.slow
def test_ray_works_in_the_batches_of_one_process(pictures, cluster):
    folder, jobs = pictures
    jobs = [Job(f"{job.id}_{again}", job.inputs) for again in range(20) for job in jobs]
    batches = list(work(STAGES["hashes"], RAY, folder, jobs))
    assert sorted(len(rows) for rows in batches) == [32] + [64] * 12
    assert {len({jobs.index(Job(row.id, row.inputs)) // 64 for row in rows}) for rows in batches} == {1}


@pytest.mark.slow
def test_a_ray_worker_killed_in_the_middle_is_survived(pictures, cluster):
    folder, jobs = pictures
    jobs = [Job(f"{job.id}_{again}", job.inputs) for again in range(8) for job in jobs]
    killed, ids = [], []
    for rows in work(STAGES["hashes"], RAY, folder, jobs):
        ids += [row.id for row in rows]
        if not killed and (workers := map_workers()):
            os.kill(workers[0].pid, signal.SIGKILL)
            killed.append(workers[0].pid)
    assert killed
    assert sorted(ids) == sorted(job.id for job in jobs)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["in-process", "ray"])
def test_what_the_user_must_change_is_told_by_both(pictures, cluster, engine):
    folder, jobs = pictures
    config = SynthConfig(engine=engine, filter_dino=FilterDinoConfig(model=str(folder / "nowhere")))
    with pytest.raises(SynthesisError, match="nowhere"):
        list(work(STAGES["filter-dino"], config, folder, jobs[:1]))


def map_workers() -> list[psutil.Process]:
    """Ray's processes that run an actor of map_batches."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "MapWorker" in "".join(process.cmdline()[:1]):
                found.append(process)
        except psutil.Error:
            continue
    return found
