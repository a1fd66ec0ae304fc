"""Calibration of a model for `--skip-threshold`: its step ratios, and what several thresholds cost."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from tyro.conf import FlagCreatePairsOff

from uno_jax.families.family import Inputs, Sampler
from uno_jax.families.model import Model
from uno_jax.families.registry import family_of
from uno_jax.sampling.generate import batches, make_inputs
from uno_jax.sampling.job_list import make_request
from uno_jax.sampling.run import Work, check_batches, prepare_work, shape_of
from uno_jax.sampling.settings import ModelArgs, SampleArgs
from uno_jax.support.atomic import atomic_write
from uno_jax.support.bounds import Count, Seed, Side
from uno_jax.support.digests import read_digests, write_digests
from uno_jax.support.errors import CheckpointError
from uno_jax.support.json_files import read_object
from uno_jax.weights.load import load_model
from uno_jax.weights.names import FOLDER, SMALL

THRESHOLDS = (0.03, 0.06, 0.12, 0.24)
LEAST_STEPS = 8
LEAST_RATIO = 1e-3


@dataclass(frozen=True, kw_only=True)
class CalibrateArgs(ModelArgs):
    """Measure by which ratios a model's steps may be left out (MagCache), and how far the pictures of
    several thresholds of --skip-threshold are from those of all steps.
    """

    jobs: Path
    """JSON list of {"prompt", "image_paths": […]} to draw: a dozen of what the model is used for."""
    count: Count = 12
    """Entries of the list that are drawn, from the first."""
    width: Side | None = None
    """Width in pixels, a multiple of 16; default the model's resolution."""
    height: Side | None = None
    """Height in pixels, a multiple of 16; default the model's resolution."""
    seed: Seed = 3407
    """Seed of each picture."""
    write: Annotated[bool, FlagCreatePairsOff] = False
    """Put the ratios into the model's directory (mmdit/config.json), where sampling finds them. To what has
    recorded the model it is then another one.
    """


class Calibration(NamedTuple):
    """What a command line asks for, after all checks."""

    asked: SampleArgs
    work: Work


def prepare_calibration(args: CalibrateArgs) -> Calibration:
    """Checks everything before weights are loaded.

    Raises ValueError or OSError saying what to change.
    """
    if args.write:
        check_writable(args.model)
    own = {name: value for name, value in vars(args).items() if name not in ("count", "write")}
    work = prepare_work(asked := SampleArgs(**own))
    family = family_of(work.config)
    if family.sampler.step_ratios is None:
        raise ValueError(f"models of the family {family.name} leave out no steps")
    work = work._replace(outputs=work.outputs[: args.count])
    check_whole(work)
    return Calibration(asked, work)


def calibrate(args: CalibrateArgs, prepared: Calibration) -> Iterator[str]:
    """Lines that report the measurement.

    Raises RecipeError where a batch cannot fit into memory, CheckpointError for damaged weights,
    FloatingPointError as `mean_ratios`.
    """
    asked, work = prepared
    family = family_of(work.config)
    check_batches(asked, work.config, (output.job for output in work.outputs))
    model = load_model(args.model, work.lora, args.dtype, args.base, work.mesh, args.offload)
    with jax.set_mesh(work.mesh):
        own = [make_inputs(requests) for requests in batched_requests(work, args.batch_size)]
        ratios = mean_ratios(family.sampler, model, own, work.settings)
        yield "step ratios: " + ", ".join(f"{ratio:.4f}" for ratio in ratios)
        yield "\n| --skip-threshold | steps | PSNR to all steps, dB | worst |\n|---|---|---|---|"
        for row in losses(family.sampler, model, own, replace(work.settings, step_ratios=ratios)):
            yield f"| {' | '.join(row)} |"
    if args.write:
        yield f"wrote {write_ratios(Path(args.model) / family.core, ratios)}"


def check_writable(model: str) -> None:
    """Raises ValueError for a model that is not a directory of one's own, OSError for a read-only one."""
    if model == SMALL or Path(model).resolve() == FOLDER.resolve():
        raise ValueError("--write changes a model's directory, and small is the shipped one: copy it first")
    if not Path(model).is_dir():
        raise ValueError(f"--write changes a model's directory, and {model} is none: copy it first")
    if not os.access(model, os.W_OK):
        raise PermissionError(f"--write: {model} cannot be written to")


def check_whole(work: Work) -> None:
    """Raises ValueError for drawings that do not have all steps, or not of all of the picture."""
    if work.settings.steps < LEAST_STEPS:
        raise ValueError(f"a calibration needs {LEAST_STEPS} steps or more, got {work.settings.steps}")
    for number, job in enumerate(output.job for output in work.outputs):
        if job.start or job.left:
            raise ValueError(
                f"entry {number} begins with a picture (start_path or left_path): a calibration takes none"
            )


def batched_requests(work: Work, size: int) -> Iterator[list[Any]]:
    """The requests of each batch."""
    for batch in batches(range(len(work.outputs)), lambda index: shape_of(work, index), size):
        yield [make_request(work.outputs[index].job, work.config) for index in batch]


def mean_ratios(sampler: Sampler, model: Model, own: Sequence[Inputs], settings: Any) -> tuple[float, ...]:
    """The step ratios of all pictures.

    Raises FloatingPointError for NaN, infinite and vanishing ones.
    """
    assert sampler.step_ratios is not None
    found = [sampler.step_ratios(model, inputs, settings) for inputs in own]
    mean = np.average(found, axis=0, weights=[len(inputs.prompts) for inputs in own])
    if not np.all(np.isfinite(mean) & (mean > LEAST_RATIO)):
        raise FloatingPointError(f"the step ratios came out as {mean}: the weights are damaged")
    return tuple(round(float(ratio), 5) for ratio in mean)


def losses(sampler: Sampler, model: Model, own: Sequence[Inputs], settings: Any) -> Iterator[tuple[str, ...]]:
    """A row for each threshold: the steps that are computed, and the distance to pictures of all steps."""

    def drawn(threshold: float) -> list[Float[np.ndarray, "b h w 3"]]:
        now = replace(settings, skip_threshold=threshold)
        return [sampler.sample(model, inputs, now, None).pictures for inputs in own]

    whole = drawn(0.0)
    for threshold in THRESHOLDS:
        pairs = zip(drawn(threshold), whole, strict=True)
        errors = [np.square((found - full) / 2).mean((1, 2, 3)) for found, full in pairs]
        psnr = -10 * np.log10(np.maximum(np.concatenate(errors), 1e-12))
        now = replace(settings, skip_threshold=threshold)
        times = np.array(now.record(own[0].width, own[0].height)["schedule"])[:-1]
        computed = int(now.computed_at(times).sum())
        steps = f"{computed} of {settings.steps} ({settings.steps / computed:.2f}x)"
        yield (f"{threshold:g}", steps, f"{psnr.mean():.1f}", f"{psnr.min():.1f}")


def write_ratios(network: Path, ratios: tuple[float, ...]) -> Path:
    """Puts the ratios into the config of a model's core network. The digests of its other files stay as they
    are, and without the config's until that is written, so that no interruption makes it look damaged.

    Raises OSError.
    """
    path, recorded = network / "config.json", read_digests(network, CheckpointError)
    record = read_object(path, {"config": dict[str, Any]})
    record["config"]["step_ratios"] = list(ratios)
    known = {network / name: digest.sha256 for name, digest in recorded.items() if name != path.name}
    if recorded:
        write_digests(network, without=[path.name], known=known)
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if recorded:
        write_digests(network, known=known)
    return path
