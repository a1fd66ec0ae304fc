"""All parts in order: OUT/model holds the networks, OUT/log.jsonl the losses, OUT/done.json what is over."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import jax
from tqdm import tqdm

from uno_jax.evaluation.toybox.scorer import check_scorer
from uno_jax.families.uno.config import ModelConfig
from uno_jax.small_training.loop import (
    Around,
    compile_step,
    drop_repeated_lines,
    state_file,
    state_path,
    train_part,
)
from uno_jax.small_training.losses import Loss
from uno_jax.small_training.parts import MODEL, Job, choose_platform, make_parts
from uno_jax.small_training.watch import open_watch
from uno_jax.small_training.weights import (
    abstract_networks,
    check_networks,
    draw_pictures,
    load_networks,
    normalise_latents,
    save_networks,
)
from uno_jax.small_training.worlds import Inputs, make_inputs
from uno_jax.support.atomic import atomic_write, check_output_folder
from uno_jax.support.bounds import Bounds, Seed
from uno_jax.support.errors import CheckpointError
from uno_jax.support.folder_lock import locked
from uno_jax.support.json_files import read_json
from uno_jax.support.trees import join
from uno_jax.training.state import split_params

DONE_FILE, LOG_FILE, MODEL_FOLDER = "done.json", "log.jsonl", "model"
COMPILERS = 2 if (os.cpu_count() or 1) > 4 else 1  # at once; each uses several cores
ENDING = 20.0  # seconds that are kept for the last files

Duration = Annotated[float, Bounds(0, 1e9)]


@dataclass(frozen=True)
class Minutes:
    """Minutes of training for each part; 0 leaves a part out."""

    autoencoder: Duration = 1.25
    """The autoencoder."""
    base: Duration = 5.0
    """The MM-DiT and the text encoders, on panels and on pairs of two references."""
    decoder: Duration = 0.0
    """The autoencoder's decoder again, which leaves the latents as they are."""
    stage1: Duration = 0.5
    """UNO's stage I, one reference."""
    stage2: Duration = 1.5
    """UNO's stage II, one to four references."""


@dataclass(frozen=True, kw_only=True)
class SmallArgs:
    """Train the small model on the toy world, part by part. The same command again continues where it
    stopped.
    """

    out: Path = Path("runs/small")
    """Directory for the model, the log and the state."""
    minutes: Minutes = field(default_factory=Minutes)
    perceptual: Path | None = None
    """File that `uno-convert lpips --dst DIR` wrote, for the autoencoder's loss, which has no perceptual term
    without it.
    """
    scorer: Path | None = None
    """Directory that `uno-convert efficientnet --dst DIR` wrote, to score pictures of held-out subjects
    during the training.
    """
    watch_every: Annotated[float, Bounds(0, 1e9, above=True)] = 40.0
    """Seconds from one scoring to the next."""
    watch_count: Annotated[int, Bounds(1, 100_000)] = 60
    """Number of prompts of each kind that are scored."""
    per_scene: Annotated[int, Bounds(1, 10_000)] = 200
    """Drawn backgrounds of each scene."""
    batch_share: Annotated[float, Bounds(0, 64, above=True)] | None = None
    """Share of the full batches; default 1 on GPUs and TPUs, 1/16 on CPUs."""
    most_minutes: Annotated[float, Bounds(0, 1e9, above=True)] | None = None
    """Minutes for everything from the start of the program; the parts that remain share what is left of them
    in proportion to their minutes.
    """
    seed: Seed = 0
    """Seed of the first weights, the samples and the noise."""


def train_small(args: SmallArgs, model: ModelConfig = MODEL) -> None:
    """Runs the parts that are not over yet, of a model with these sizes.

    Raises ValueError for arguments that cannot work, and CheckpointError, BankError, OSError or
    FloatingPointError.
    """
    check_output_folder("--out", args.out)
    with locked(args.out):
        start = time.monotonic()
        jobs = plan_jobs(args, model)
        remove_states(args.out)
        if jobs:
            _run_jobs(args, model, jobs, start)
        else:
            tqdm.write(f"all parts with minutes are finished: the networks lie in {args.out / MODEL_FOLDER}")


def _run_jobs(args: SmallArgs, model: ModelConfig, jobs: list[Job], start: float) -> None:
    inputs = make_inputs(args.out, model.defaults.resolution, args.per_scene, args.perceptual)
    tqdm.write(f"the world is made in {time.monotonic() - start:.0f} s")
    drop_repeated_lines(jobs[0], args.out / LOG_FILE)
    # The later parts are compiled while the first one trains.
    with ThreadPoolExecutor(COMPILERS) as pool, (args.out / LOG_FILE).open("a") as log:
        compiling = start_compiling(pool, jobs, inputs)
        watch = open_watch(jobs[0], args.scorer, args.watch_count, log) if args.scorer else None
        around = Around(log, watch, args.watch_every)
        for job in jobs:
            compiling[first_loss(job)].result()  # before the time that is left is shared out
            minutes = fit_minutes(args, job, jobs, start)
            over = minutes > 0 and run_job(job._replace(minutes=minutes), compiling, inputs, around)
            if not over:
                name, saved = job.part.name, state_path(job)
                why = f"stopped in {name}, saved in {saved}" if minutes else f"no time is left for {name}"
                tqdm.write(f"{why}; the same command continues")
                pool.shutdown(cancel_futures=True)
                break
        else:
            tqdm.write(f"wrote {args.out / MODEL_FOLDER} and {args.out / LOG_FILE}")
        if watch is not None:
            watch.wait()


def plan_jobs(args: SmallArgs, model: ModelConfig) -> list[Job]:
    """The parts that are not over and have minutes, after all checks that need no training.

    Raises ValueError, CheckpointError or FileNotFoundError.
    """
    platform, done = choose_platform(model, args.batch_share, args.seed), read_done(args.out)
    jobs = [
        Job(part, model, platform.recipe, minutes, args.out)
        for part in make_parts(platform, model).values()
        if part.name not in done and (minutes := getattr(args.minutes, part.name))
    ]
    check_networks([job.part for job in jobs], model, args.out / MODEL_FOLDER)
    if args.scorer is not None:
        check_scorer(args.scorer)
    return jobs


def run_job(job: Job, compiling: Mapping[Loss, Future[Any]], inputs: Inputs, around: Around) -> bool:
    """Trains a part and writes its networks. Whether it is over, and not stopped by a signal."""
    networks = job.folder / MODEL_FOLDER
    params = load_networks(job.part, job.model, networks, job.recipe.seed)
    steps = {turn: compiling[loss] for turn, loss in job.part.losses.items()}
    trained = train_part(job, steps, params, inputs, around)
    if trained is None:
        return False
    frozen = split_params(params, job.part.trainable)[0]
    trained = {kind: join(frozen.get(kind, {}), tree) for kind, tree in trained.items()}
    if job.part.name == "autoencoder":
        pictures = draw_pictures(inputs, jax.random.key(job.recipe.seed), job.model.t5.length)
        trained = {"vae": normalise_latents(trained["vae"], job.model.vae, pictures)}
    save_networks(trained, job.model, networks)
    finish_part(job)
    return True


def compile_faster() -> None:
    """Before JAX starts: on GPUs, products by cuBLAS in place of kernels that are made and tried one by one,
    which compiles sooner (docs/benchmarks.md). And no CUDA graphs: while one thread captures a graph, the
    watch's may not load a program.
    """
    flags = "--xla_gpu_autotune_level=2 --xla_gpu_enable_triton_gemm=false --xla_gpu_enable_command_buffer="
    os.environ.setdefault("XLA_FLAGS", flags)


def start_compiling(pool: ThreadPoolExecutor, jobs: Sequence[Job], inputs: Inputs) -> dict[Loss, Future[Any]]:
    """The step of each loss, compiled in the order in which they are needed."""
    compiling: dict[Loss, Future[Any]] = {}
    for job in jobs:
        for turn in dict.fromkeys(job.part.turns):
            if (loss := job.part.losses[turn]) not in compiling:
                shapes = abstract_networks(job.part, job.model)
                compiling[loss] = pool.submit(compile_step, job, turn, shapes, inputs)
    return compiling


def first_loss(job: Job) -> Loss:
    return job.part.losses[job.part.turns[0]]


def fit_minutes(args: SmallArgs, job: Job, jobs: Sequence[Job], start: float) -> float:
    """The job's minutes, but no more than its share of the time that is left."""
    if args.most_minutes is None:
        return job.minutes
    left = args.most_minutes - (time.monotonic() - start + ENDING) / 60
    planned = sum(each.minutes for each in jobs[jobs.index(job) :])
    return job.minutes * max(0.0, min(1.0, left / planned))


def read_done(folder: Path) -> list[str]:
    """The names of the parts that are over.

    Raises CheckpointError for a file that is not a list of them.
    """
    path = folder / DONE_FILE
    done = read_json(path, CheckpointError) if path.is_file() else []
    if not isinstance(done, list) or not all(isinstance(name, str) for name in done):
        raise CheckpointError(f"{path} holds {done!r}, expected a list of the parts that are over")
    return done


def finish_part(job: Job) -> None:
    """Records that a part is over and removes its state."""
    with atomic_write(job.folder / DONE_FILE) as path:
        path.write_text(json.dumps([*read_done(job.folder), job.part.name]) + "\n")
    remove_states(job.folder)


def remove_states(folder: Path) -> None:
    """Removes the states of parts that are over, which nothing reads any more."""
    for name in read_done(folder):
        state_file(folder, name).unlink(missing_ok=True)
