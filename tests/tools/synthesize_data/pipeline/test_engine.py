"""Both engines give the same rows; a lost Ray worker loses nothing."""

import dataclasses
import os
import pickle
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from tools.common.errors import ToolError
from tools.common.manifest import Job
from tools.synthesize_data.config import FilterDinoConfig, RayConfig, SynthConfig
from tools.synthesize_data.pipeline.engine import make_rows
from tools.synthesize_data.stages.order import STAGES

JOBS = [Job(f"id{number}", {"number": number}) for number in range(7)]
RAY = SynthConfig(engine="ray", ray=RayConfig(actors=2, object_store_mb=100))


def test_a_model_that_does_not_fit_is_told():
    def worker(config, folder):
        raise torch.OutOfMemoryError("40 GiB wanted")

    stage = dataclasses.replace(STAGES["hashes"], worker=worker)
    with pytest.raises(ToolError, match="hashes: its model does not fit into memory: 40 GiB wanted"):
        next(make_rows(stage, SynthConfig(), Path(), JOBS))


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_can_be_sent_to_another_process(name):
    config = SynthConfig()
    stage, copy = STAGES[name], pickle.loads(pickle.dumps(STAGES[name]))
    assert copy.name == name and copy.inputs is stage.inputs and copy.worker is stage.worker
    assert copy.settings(config) == stage.settings(config)
    assert copy.batch_size(config) == stage.batch_size(config)


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
    return {row.id: row for rows in make_rows(STAGES["hashes"], config, folder, jobs) for row in rows}


@pytest.mark.slow
def test_ray_and_one_process_agree(pictures, cluster):
    here, there = rows_of(SynthConfig(), *pictures), rows_of(RAY, *pictures)
    assert here == there and len(here) == 40
    assert "7.png is not a readable picture" in here["id7"].failed
    assert len({row.result["phash"] for row in here.values() if row.result}) == 39


@pytest.mark.slow
def test_ray_works_in_the_batches_of_one_process(pictures, cluster):
    folder, jobs = pictures
    jobs = [Job(f"{job.id}_{again}", job.inputs) for again in range(20) for job in jobs]
    batches = list(make_rows(STAGES["hashes"], RAY, folder, jobs))
    assert sorted(len(rows) for rows in batches) == [32] + [64] * 12
    assert {len({jobs.index(Job(row.id, row.inputs)) // 64 for row in rows}) for rows in batches} == {1}


@pytest.mark.slow
def test_a_ray_worker_killed_in_the_middle_is_survived(pictures, cluster):
    folder, jobs = pictures
    jobs = [Job(f"{job.id}_{again}", job.inputs) for again in range(8) for job in jobs]
    killed, ids = [], []
    for rows in make_rows(STAGES["hashes"], RAY, folder, jobs):
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
    with pytest.raises(ToolError, match="nowhere"):
        list(make_rows(STAGES["filter-dino"], config, folder, jobs[:1]))


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
