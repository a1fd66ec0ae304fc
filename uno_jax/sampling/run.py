"""Sampling from the command line: one prompt, or a list of jobs -> pictures with their settings in JSON
beside them.

Everything is checked before weights are loaded; pictures that exist already with the same settings are kept.
The Python API is `uno_jax.generate` with `uno_jax.load_model`.
"""

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from PIL import Image

from uno_jax.families.model import Model
from uno_jax.families.progress import Watch
from uno_jax.families.registry import family_of
from uno_jax.sampling.generate import THOUGHT, answer_batch, batches, sample_batch
from uno_jax.sampling.job_list import (
    Entry,
    Job,
    JobDefaults,
    make_job,
    make_request,
    picture_reader,
    read_jobs,
)
from uno_jax.sampling.like import batch_of, check_like
from uno_jax.sampling.prompt_length import cut_prompts
from uno_jax.sampling.request import batch_shape, check_answers, check_memory, check_pictures, check_turns
from uno_jax.sampling.results import (
    Output,
    common_record,
    device_name,
    digest_outputs,
    is_finished,
    is_picture,
    plan_outputs,
    refuse_devices,
    refuse_replacing,
    write_output,
)
from uno_jax.sampling.settings import Drawing, SampleArgs, check_args, choose_model, first_seed
from uno_jax.sampling.step_bar import StepBar
from uno_jax.support.folder_lock import locked, locked_path
from uno_jax.support.words import printable
from uno_jax.weights.load import (
    default_dtype,
    held_bytes,
    load_model,
    read_model_config,
    read_tokenizer,
)
from uno_jax.weights.loras import Added
from uno_jax.weights.names import find_model


class Work(NamedTuple):
    """What a command line asks for, after all checks."""

    config: Any
    settings: Any
    lora: Added | None
    mesh: Mesh
    outputs: list[Output]
    batch: tuple[int, int] | None = None
    """Of pictures like another: its place in its batch, and that batch's size."""


def prepare_work(args: SampleArgs) -> Work:
    """Checks everything, cheapest first.

    Raises ValueError or OSError saying what to change.
    """
    check_args(args)
    config = read_model_config(args.model)
    seed = first_seed(args)
    defaults = JobDefaults(config, args.width, args.height, seed, args.num_images, args.ref_size)
    if args.jobs is not None:
        jobs = read_jobs(args.jobs, defaults)
    else:
        refs = tuple(ref for refs in args.ref for ref in refs)
        given = Entry(args.prompt or "", refs, args.left, {}, (), args.negative, args.start_image, args.mask)
        jobs = [make_job(defaults, picture_reader(config), given)]
    drawing = choose_model(args)
    if args.like is not None:
        check_like(args)
    if args.understand:
        check_answers(config)
    check_jobs(args, drawing, jobs)
    check_pictures(config, drawing.settings, jobs)
    for line in cut_prompts(config, [text for job in jobs for text in (job.prompt, job.negative or "")]):
        print(line, file=sys.stderr)
    record = common_record(args.model, args.lora, args.dtype or default_dtype(), args.base)
    outputs = plan_outputs(jobs, drawing.settings, args.num_images, args.named, record)
    return Work(*drawing, outputs, None if args.like is None else batch_of(args.like))


def check_jobs(args: SampleArgs, drawing: Drawing, jobs: Sequence[Job]) -> None:
    """Raises ValueError naming a job whose texts and references the model cannot take."""
    tokenizer = read_tokenizer(args.model, drawing.config)
    for number, job in enumerate(jobs):
        try:
            check_turns(drawing.config, tokenizer, drawing.settings, job)
        except ValueError as error:
            raise ValueError(str(error) if args.jobs is None else f"entry {number}: {error}") from None


@contextlib.contextmanager
def locked_outputs(args: SampleArgs, work: Work) -> Iterator[None]:
    """Locks where the pictures are written against every other command but one that draws the same pictures
    with the same settings. Numbered pictures need no lock: each number is taken once.

    Raises InUseError.
    """
    if args.named is None:
        yield
        return
    lock = locked_path if is_picture(args.named) else locked
    with lock(args.named, sharing=digest_outputs(work.outputs)):
        yield


def check_outputs(args: SampleArgs, work: Work) -> None:
    """Raises OSError for pictures that would replace others, and for devices and pipes in their place."""
    refuse_devices(work.outputs)
    if not args.overwrite:
        refuse_replacing(work.outputs)


def check_batches(args: SampleArgs, config: Any, jobs: Iterable[Job]) -> None:
    """Raises RecipeError where the weights, or they and a batch of pictures, cannot fit into memory."""
    dtype = args.dtype or default_dtype()
    weights = held_bytes(find_model(args.model), family_of(config).networks, dtype, args.base, args.offload)
    shapes = Counter(((job.width, job.height), *(ref.size for ref in job.refs)) for job in jobs)
    for sizes, count in shapes.items():
        check_memory(config, weights, sizes, min(args.batch_size, count), dtype)


def draw_missing(args: SampleArgs, work: Work, index: int = 0, count: int = 1) -> list[Path]:
    """Makes the pictures that do not exist yet, batch by batch, and returns their files. Process `index` of
    `count` makes its share of the batches only.

    Raises RecipeError, before weights are loaded, where they or a batch cannot fit into memory.
    """
    finished = [is_finished(output) for output in work.outputs]
    if all(finished):
        return []
    check_batches(args, work.config, (output.job for output in work.outputs))
    made: list[Path] = []
    indices = range(len(work.outputs))
    # Batches are cut from the whole list and drawn whole, so that a resumed run draws the same pictures.
    size = args.batch_size if work.batch is None else 1
    grouped = batches(indices, lambda index: shape_of(work, index), size)
    own = [batch for batch in grouped[index::count] if not all(finished[index] for index in batch)]
    missing = [[index for index in batch if not finished[index]] for batch in own]
    with StepBar(sum(map(len, missing))) as bar:
        bar.tell("loading")
        model = load_model(args.model, work.lora, args.dtype, args.base, work.mesh, args.offload)
        with jax.set_mesh(work.mesh):
            for batch, wanted in zip(own, missing, strict=True):
                pictures = draw_batch(model, work, batch, bar.watch(len(wanted)))
                for number in wanted:
                    picture, drawn = pictures[number]
                    made.append(write_output(work.outputs[number], picture, drawn))
                    if THOUGHT in picture.info:
                        bar.write(printable(f"{made[-1]}: {picture.info[THOUGHT]}"))
                    bar.drawn(1)
    return made


def draw_batch(
    model: Model, work: Work, batch: Sequence[int], watch: Watch
) -> dict[int, tuple[Image.Image, dict[str, Any]]]:
    """The pictures of a batch by their numbers, with what is recorded of how they were drawn. One like
    another is drawn in as large a batch, of copies of it, since the last bits depend on that.
    """
    requests = [make_request(work.outputs[index].job, work.config) for index in batch]
    place, size = work.batch or (0, len(requests))
    requests *= size // len(requests)
    pictures = sample_batch(model, requests, work.settings, watch)[place:]
    about = [{"device": device_name(), "batch": [place + row, size]} for row in range(len(batch))]
    return dict(zip(batch, zip(pictures, about, strict=False), strict=False))


def write_answers(args: SampleArgs, work: Work) -> Iterator[str]:
    """The answers to what is asked, batch by batch: a text, or for several a line of JSON for each.

    Raises RecipeError as `draw_missing`.
    """
    check_batches(args, work.config, (output.job for output in work.outputs))
    model = load_model(args.model, work.lora, args.dtype, args.base, work.mesh, args.offload)
    indices = range(len(work.outputs))
    with jax.set_mesh(work.mesh):
        for batch in batches(indices, lambda index: shape_of(work, index), args.batch_size):
            requests = [make_request(work.outputs[index].job, work.config) for index in batch]
            for index, text in zip(batch, answer_batch(model, requests, work.settings), strict=True):
                entry, image = divmod(index, args.num_images)
                several = {"entry": entry, "image": image, "answer": text}
                yield json.dumps(several, ensure_ascii=False) if len(indices) > 1 else printable(text)


def shape_of(work: Work, index: int) -> Hashable:
    """What an output shares with the others of its batch."""
    return batch_shape(work.config, work.settings, work.outputs[index].job)
