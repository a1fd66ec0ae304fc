"""The command line of sampling: one prompt, or a list of jobs -> pictures with their settings in JSON beside
them.

Everything is checked before weights are loaded; pictures that are there already with equal settings are kept.
The Python API is `uno_jax.sampling.generate.generate` with `uno_jax.weights.load.load_model`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import jax
from PIL import Image
from tqdm import tqdm
from tyro.conf import UseAppendAction

from uno_jax.networks.config import ModelConfig
from uno_jax.sampling.generate import batches, sample_batch
from uno_jax.sampling.job_list import (
    Checker,
    Output,
    common_record,
    is_finished,
    is_picture,
    make_request,
    plan,
    read_jobs,
    shape,
    write,
)
from uno_jax.sampling.plan import plan_sampling
from uno_jax.sampling.request import Settings, choose_unope, make_settings
from uno_jax.support.command_line import errors_told, parse_args, take_plan
from uno_jax.support.compile_cache import use_compile_cache
from uno_jax.support.images import ImageError
from uno_jax.weights.checkpoint import CheckpointError
from uno_jax.weights.load import (
    Lora,
    default_dtype,
    load_model,
    local_mesh,
    read_model_config,
    read_named_lora,
)
from uno_jax.weights.names import SMALL, find_model


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What every command that draws takes."""

    model: str = SMALL
    """Directory of converted networks (mmdit/, vae/, t5/, clip/); small: the shipped one."""
    lora: str = "auto"
    """LoRA: a native directory, a .safetensors file, or none; auto: the model's own lora/, if it has one."""
    unope: Literal["d", "h", "w", "o"] | None = None
    """Axes along which references' positions are offset; default the LoRA's, which must not be contradicted.
    """
    offset_scale: float | None = None
    """Factor on those offsets; default the LoRA's."""
    steps: int | None = None
    """Euler steps; default 25, for schnell 4."""
    guidance: float | None = None
    """Guidance embedding; default the model's: 4 for FLUX.1-dev, none for schnell."""
    true_cfg: float | None = None
    """Classifier-free guidance away from the empty prompt without references, for twice the work; default the
    model's: 1, which leaves it out, for FLUX.
    """
    batch_size: int = 4
    """Most pictures of equal shapes to make at once."""
    dtype: Literal["bfloat16", "float32"] | None = None
    """Of the model; default bfloat16 on accelerators, float32 on the CPU."""


@dataclass(frozen=True, kw_only=True)
class Args(Drawing):
    """Sample pictures of the references' subjects, of one --prompt or of a list of --jobs."""

    prompt: str | None = None
    """What the picture shows."""
    ref: Annotated[tuple[tuple[Path, ...], ...], UseAppendAction] = ()
    """Reference pictures, none to many: --ref a.jpg b.jpg."""
    left: Path | None = None
    """Left half of a diptych of which the right half is made (diptych prompting). --width is that of both, by
    default twice the model's resolution.
    """
    jobs: Path | None = None
    """JSON list of {"prompt", "image_paths": […]} in place of --prompt and --ref."""
    out: Path = Path("out")
    """Directory for {entry}_{image}.png, or a .png file for a single picture; replaces what other settings
    made.
    """
    width: int | None = None
    """Pixels, a multiple of 16; default the model's resolution (512 for FLUX)."""
    height: int | None = None
    """As width."""
    seed: int = 3407
    """Seed of the first picture of a prompt; the next has the next seed."""
    num_images: int = 1
    """Pictures a prompt."""
    ref_size: int | None = None
    """Longest side of references in pixels; default the model's, for FLUX 512 for one and
    320 for several.
    """


class Work(NamedTuple):
    """What a command line asks for, checked."""

    config: ModelConfig
    settings: Settings
    lora: Lora | None
    outputs: list[Output]


def main(argv: Sequence[str] | None = None) -> None:
    """The command `uno-sample`."""
    where, rest = take_plan(argv)
    if where is not None:
        with errors_told(ValueError, OSError):
            plan_sampling(where, rest)
        return
    args = parse_args(Args, "python -m uno_jax.sample [--plan TOPOLOGY]", argv)
    use_compile_cache()
    # Past the checks a ValueError is a fault of this program and keeps its traceback.
    with errors_told(ValueError, OSError):
        work = prepare(args)
    with errors_told(CheckpointError, ImageError, FloatingPointError, OSError):
        made = run(args, work)
    print(f"{made} pictures made, {len(work.outputs) - made} were there already: {args.out}")


def prepare(args: Args) -> Work:
    """Checks everything, cheapest first. Raises ValueError or OSError saying what to change."""
    check_args(args)
    config = read_model_config(args.model)
    settings = make_settings(config.mmdit, args.steps, args.guidance, true_cfg=args.true_cfg)
    checker = Checker(config, args.width, args.height, args.seed, args.num_images, args.ref_size)
    if args.jobs is not None:
        jobs = read_jobs(args.jobs, checker)
    else:
        jobs = [checker.job(args.prompt or "", [ref for refs in args.ref for ref in refs], args.left)]
    lora = read_named_lora(args.lora, find_model(args.model), config.mmdit)
    unope = choose_unope(args.unope, args.offset_scale, lora.unope if lora else None)
    settings = replace(settings, unope=unope)
    record = common_record(args.model, args.lora, args.dtype or default_dtype())
    outputs = plan(jobs, settings, args.num_images, args.out, record)
    return Work(config, settings, lora, outputs)


def check_args(args: Args) -> None:
    """Raises ValueError or OSError for arguments that contradict each other and for an unusable --out."""
    if (args.prompt is None) == (args.jobs is None):
        raise ValueError("give either --prompt or --jobs" + (", not both" if args.prompt is not None else ""))
    if args.jobs is not None and (args.ref or args.left):
        raise ValueError("--ref and --left go with --prompt; a job list names its own pictures")
    if args.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {args.batch_size}")
    single = is_picture(args.out)
    if args.out.suffix.lower() in Image.registered_extensions() and not single:
        raise ValueError(f"--out {args.out}: pictures are written as .png; give such a file or a directory")
    if single and (args.jobs is not None or args.num_images != 1):
        raise ValueError(f"--out {args.out} is one file, but several pictures may be made: give a directory")
    if args.out.exists() and single == args.out.is_dir():
        raise ValueError(f"--out {args.out} is a {'directory' if single else 'file'}: choose another name")
    folder = args.out.absolute()
    while not folder.exists():
        folder = folder.parent
    if not (folder.is_dir() or folder == args.out.absolute()) or not os.access(folder, os.W_OK):
        raise PermissionError(f"--out {args.out}: cannot write in {folder}")


def run(args: Args, work: Work, index: int = 0, count: int = 1) -> int:
    """Makes the pictures that are not there yet, batch by batch, and returns their number; as process `index`
    of `count` only its share of the batches.
    """
    finished = [is_finished(output) for output in work.outputs]
    if all(finished):
        return 0
    model = load_model(args.model, work.lora, args.dtype)
    indices = range(len(work.outputs))
    bar = tqdm(total=len(indices), initial=sum(finished), unit="picture", dynamic_ncols=True)
    with jax.set_mesh(local_mesh()), bar:
        # Batches follow from the whole list and are made whole: what is resumed is then no different.
        grouped = batches(indices, lambda index: shape(work.outputs[index].job), args.batch_size)
        for number, batch in enumerate(grouped):
            missing = [not finished[index] for index in batch]
            if not any(missing) or number % count != index:
                continue
            outputs = [work.outputs[index] for index in batch]
            requests = [make_request(output.job, work.config) for output in outputs]
            pictures = sample_batch(model, requests, work.settings)
            for output, picture in compress(zip(outputs, pictures, strict=True), missing):
                write(output, picture)
                bar.update()
    return finished.count(False)
