"""Jobs -> rows, batch by batch: in this process, or by Ray Data on many GPUs and machines."""

import gc
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...common.manifest import Failed, Job, Row, SynthesisError
from ..config import SynthConfig
from .stage import Stage, Worker


class OutOfMemoryError(RuntimeError):
    """A batch was too large for the memory, as torch's error of that name."""


def work(stage: Stage, config: SynthConfig, folder: Path, jobs: Sequence[Job]) -> Iterator[list[Row]]:
    """Every job's row, in batches as they are done; the same rows whichever engine does them."""
    engines = {"in-process": in_process, "ray": with_ray}
    return engines[config.engine](stage, config, folder, jobs)


def in_process(stage: Stage, config: SynthConfig, folder: Path, jobs: Sequence[Job]) -> Iterator[list[Row]]:
    worker = halving(stage, config, folder)
    for part in cut(jobs, stage.batch_size(config)):
        yield worker(part)
    del worker
    free_accelerator()


def cut(jobs: Sequence[Job], size: int) -> list[Sequence[Job]]:
    return [jobs[start : start + size] for start in range(0, len(jobs), size)]


def free_accelerator() -> None:
    """Gives torch's kept memory back: the next stage may be a program of its own on the same card."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def halving(stage: Stage, config: SynthConfig, folder: Path) -> "Halving":
    """The stage's worker. Raises SynthesisError when its weights alone are too large for the memory."""
    try:
        return Halving(stage.worker(config, folder))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise SynthesisError(f"{stage.name}: its model does not fit into the memory: {error}") from None


def is_out_of_memory(error: Exception) -> bool:
    return type(error).__name__ in ("OutOfMemoryError", "MemoryError")


class Halving:
    """A worker that is given less at a time when memory runs out, from then on."""

    def __init__(self, worker: Worker):
        self.worker = worker
        self.limit = 0
        self.did_any = False

    def __call__(self, jobs: Sequence[Job]) -> list[Row]:
        rows: list[Row] = []
        while len(rows) < len(jobs):
            rows += self.part(jobs[len(rows) :][: self.limit or None])
        return rows

    def part(self, jobs: Sequence[Job]) -> list[Row]:
        """The rows of all jobs, or none when they were too many. Raises SynthesisError when not even the
        first single one fits: then it is not the job that is too large.
        """
        try:
            results = self.worker(jobs)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(jobs) == 1:
                why = f"out of memory with a batch of one: {error}"
                if not self.did_any:
                    raise SynthesisError(why) from None
                return [make_row(jobs[0], Failed(why))]
            self.limit = len(jobs) // 2
            return []
        self.did_any = True
        return [make_row(job, result) for job, result in zip(jobs, results, strict=True)]


def make_row(job: Job, result: dict | Failed) -> Row:
    if isinstance(result, Failed):
        return Row(job.id, job.inputs, None, result.reason)
    return Row(job.id, job.inputs, result)


class Actor:
    """A worker in a Ray process of its own. A batch of jobs and its rows travel as JSON, and so does a
    SynthesisError, which Ray would wrap in errors of its own.
    """

    def __init__(self, stage: str, config: SynthConfig, folder: Path):
        self.arguments = stage, config, folder
        self.worker: Halving | None = None

    def __call__(self, batch: dict) -> dict:
        try:
            if self.worker is None:
                from ..stages.order import STAGES

                stage, config, folder = self.arguments
                self.worker = halving(STAGES[stage], config, folder)
            rows = self.worker([Job(**job) for job in json.loads(batch["jobs"][0])])
        except SynthesisError as error:
            return {"rows": [json.dumps({"error": str(error)})]}
        return {"rows": [json.dumps([row._asdict() for row in rows])]}


def with_ray(stage: Stage, config: SynthConfig, folder: Path, jobs: Sequence[Job]) -> Iterator[list[Row]]:
    """map_batches with an actor a GPU, or a CPU core where there is none. Ray starts lost actors again and
    gives their batches to others; the rows come here, so that one process alone writes. A block of Ray's is
    one batch, the same as in one process: larger ones would come back, and be lost, as a whole.
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
    parts = [
        {"jobs": json.dumps([job._asdict() for job in part])} for part in cut(jobs, stage.batch_size(config))
    ]
    done = from_items(parts, override_num_blocks=len(parts)).map_batches(
        Actor,
        fn_constructor_args=(stage.name, config, folder.absolute()),
        batch_size=1,
        compute=ActorPoolStrategy(min_size=1, max_size=max(1, min(count, len(parts)))),
        num_gpus=min(1, gpus / count),
    )
    for batch in done.iter_batches(batch_size=None):
        for rows in map(json.loads, batch["rows"]):
            if "error" in rows:
                raise SynthesisError(rows["error"])
            yield [Row(**row) for row in rows]
