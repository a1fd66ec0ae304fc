"""Jobs -> rows, batch by batch: in this process, or by Ray Data on many GPUs and machines."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from .config import SynthConfig
from .rows import Failed, Job, Row, SynthesisError
from .stage import Stage, Worker


class OutOfMemoryError(RuntimeError):
    """A batch was too large for the memory, as torch's error of that name."""


def work(stage: Stage, config: SynthConfig, folder: Path, jobs: Sequence[Job]) -> Iterator[list[Row]]:
    """Every job's row, in batches as they are done; the same rows whichever engine does them."""
    engines = {"in-process": in_process, "ray": with_ray}
    return engines[config.engine](stage, config, folder, jobs)


def in_process(stage: Stage, config: SynthConfig, folder: Path, jobs: Sequence[Job]) -> Iterator[list[Row]]:
    worker, size = Halving(stage.worker(config, folder)), stage.batch_size(config)
    for start in range(0, len(jobs), size):
        yield worker(jobs[start : start + size])


class Halving:
    """A worker that is given less at a time when memory runs out, from then on."""

    def __init__(self, worker: Worker):
        self.worker = worker
        self.limit = 0

    def __call__(self, jobs: Sequence[Job]) -> list[Row]:
        size = min(self.limit or len(jobs), len(jobs))
        return [row for start in range(0, len(jobs), size) for row in self.part(jobs[start : start + size])]

    def part(self, jobs: Sequence[Job]) -> list[Row]:
        try:
            results = self.worker(jobs)
        except (RuntimeError, MemoryError) as error:
            if type(error).__name__ not in ("OutOfMemoryError", "MemoryError"):
                raise
            if len(jobs) == 1:
                return [make_row(jobs[0], Failed(f"out of memory with a batch of one: {error}"))]
        else:
            return [make_row(job, result) for job, result in zip(jobs, results, strict=True)]
        # Outside the handler, where the exception no longer holds on to the batch's memory.
        self.limit = len(jobs) // 2
        return self(jobs)


def make_row(job: Job, result: dict | Failed) -> Row:
    if isinstance(result, Failed):
        return Row(job.id, job.inputs, None, result.reason)
    return Row(job.id, job.inputs, result)


class Actor:
    """A worker in a Ray process of its own. Jobs and rows travel as JSON, and so does a SynthesisError, which
    Ray would wrap in errors of its own.
    """

    def __init__(self, stage: str, config: SynthConfig, folder: Path):
        self.arguments = stage, config, folder
        self.worker: Halving | None = None

    def __call__(self, batch: dict) -> dict:
        try:
            if self.worker is None:
                from .stages import STAGES

                stage, config, folder = self.arguments
                self.worker = Halving(STAGES[stage].worker(config, folder))
            rows = self.worker([Job(**json.loads(job)) for job in batch["job"]])
        except SynthesisError as error:
            return {"row": [json.dumps({"error": str(error)})]}
        return {"row": [json.dumps(row._asdict()) for row in rows]}


def with_ray(stage: Stage, config: SynthConfig, folder: Path, jobs: Sequence[Job]) -> Iterator[list[Row]]:
    """map_batches with an actor a GPU, or a CPU core where there is none. Ray starts lost actors again and
    gives their batches to others; the rows come here, so that one process alone writes.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy, from_items
    except ImportError as error:
        raise SynthesisError(f"--engine ray takes Ray: pip install 'uno_jax[synth]' ({error})") from None
    settings = config.ray
    if not ray.is_initialized():
        store = settings.object_store_mb * 2**20 if settings.object_store_mb else None
        ray.init(address=settings.address or None, object_store_memory=store, log_to_driver=settings.logs)
    gpus = int(ray.cluster_resources().get("GPU", 0))
    count = settings.actors or gpus or int(ray.cluster_resources()["CPU"])
    size = stage.batch_size(config)
    done = from_items([{"job": json.dumps(job._asdict())} for job in jobs]).map_batches(
        Actor,
        fn_constructor_args=(stage.name, config, folder.absolute()),
        batch_size=size,
        compute=ActorPoolStrategy(min_size=1, max_size=max(1, min(count, -(-len(jobs) // size)))),
        num_gpus=min(1, gpus / count),
    )
    for batch in done.iter_batches(batch_size=None):
        rows = [json.loads(row) for row in batch["row"]]
        if errors := [row["error"] for row in rows if "error" in row]:
            raise SynthesisError(errors[0])
        yield [Row(**row) for row in rows]
