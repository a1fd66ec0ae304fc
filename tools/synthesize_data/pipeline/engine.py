"""Jobs -> rows, batch by batch: in this process, or with Ray Data on many GPUs and machines."""

import gc
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from uno_jax.support.json_files import parse_json

from ...common.errors import ToolError
from ...common.manifest import Job, Row
from ...common.memory import Halving, is_out_of_memory
from ..config import SynthConfig
from .stage import Stage


def make_rows(stage: Stage, config: SynthConfig, folder: Path, jobs: Sequence[Job]) -> Iterator[list[Row]]:
    """Yields the rows of every job, batch by batch as they are finished; all engines make the same rows."""
    engines = {"in-process": in_process, "ray": with_ray}
    return engines[config.engine](stage, config, folder, jobs)


def in_process(stage: Stage, config: SynthConfig, folder: Path, jobs: Sequence[Job]) -> Iterator[list[Row]]:
    worker = load_worker(stage, config, folder)
    for batch in cut_batches(jobs, stage.batch_size(config)):
        yield worker(batch)
    del worker
    free_accelerator()


def cut_batches(jobs: Sequence[Job], size: int) -> list[Sequence[Job]]:
    return [jobs[start : start + size] for start in range(0, len(jobs), size)]


def free_accelerator() -> None:
    """Releases the memory that torch caches: the next stage may run another program on the same card."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def load_worker(stage: Stage, config: SynthConfig, folder: Path) -> Halving:
    """Makes the stage's worker.

    Raises ToolError when its weights alone do not fit into memory.
    """
    try:
        return Halving(stage.worker(config, folder))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ToolError(f"{stage.name}: its model does not fit into memory: {error}") from None


class Actor:
    """A worker in a Ray process of its own. Batches of jobs and rows travel as JSON, and so does a ToolError,
    which Ray would wrap in errors of its own.
    """

    def __init__(self, stage: Stage, config: SynthConfig, folder: Path):
        self.stage, self.config, self.folder = stage, config, folder
        self.worker: Halving | None = None

    def __call__(self, batch: dict) -> dict:
        try:
            if self.worker is None:
                self.worker = load_worker(self.stage, self.config, self.folder)
            rows = self.worker([Job(**job) for job in parse_json(batch["jobs"][0], "jobs")])
        except ToolError as error:
            return {"rows": [json.dumps({"error": str(error)})]}
        return {"rows": [json.dumps([row._asdict() for row in rows])]}


def with_ray(stage: Stage, config: SynthConfig, folder: Path, jobs: Sequence[Job]) -> Iterator[list[Row]]:
    """Runs map_batches with one actor per GPU, or per CPU core where there is no GPU.

    Ray restarts lost actors and gives their batches to others. Rows return to this process, which alone
    writes. A block of Ray's is one batch: larger blocks would be returned, and lost, as a whole.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy, from_items
    except ImportError as error:
        raise ToolError(f"--engine ray needs Ray: pip install 'uno_jax[synth]' ({error})") from None
    settings = config.ray
    if not ray.is_initialized():
        store = settings.object_store_mb * 2**20 if settings.object_store_mb else None
        ray.init(address=settings.address or None, object_store_memory=store, log_to_driver=settings.logs)
    gpus = int(ray.cluster_resources().get("GPU", 0))
    count = settings.actors or gpus or int(ray.cluster_resources()["CPU"])
    batches = cut_batches(jobs, stage.batch_size(config))
    parts = [{"jobs": json.dumps([job._asdict() for job in batch])} for batch in batches]
    done = from_items(parts, override_num_blocks=len(parts)).map_batches(
        Actor,
        fn_constructor_args=(stage, config, folder.absolute()),
        batch_size=1,
        compute=ActorPoolStrategy(min_size=1, max_size=max(1, min(count, len(parts)))),
        num_gpus=min(1, gpus / count),
    )
    for batch in done.iter_batches(batch_size=None):
        for text in batch["rows"]:
            rows = parse_json(text, "rows")
            if "error" in rows:
                raise ToolError(rows["error"])
            yield [Row(**row) for row in rows]
