"""Pictures of fixed prompts during a run: a list of jobs, checked before the run, and the current weights ->
a contact sheet of references and results.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from PIL import Image
from tqdm import tqdm

from uno_jax.families.model import Model
from uno_jax.families.registry import family_of
from uno_jax.sampling.generate import batches, sample_batch
from uno_jax.sampling.job_list import Job, JobDefaults, make_request, read_jobs
from uno_jax.sampling.prompt_length import cut_prompts
from uno_jax.sampling.request import batch_shape, check_pictures, make_settings
from uno_jax.support.atomic import atomic_write
from uno_jax.support.contact_sheet import Row, contact_sheet
from uno_jax.support.errors import RecipeError
from uno_jax.support.images import ImageError, read_image
from uno_jax.support.trees import Params, join
from uno_jax.training.config import TrainConfig
from uno_jax.training.state import TrainState


class Samples(NamedTuple):
    """What is drawn each time."""

    model: Any
    jobs: list[Job]
    settings: Any


def read_samples(config: TrainConfig, model: Any) -> Samples | None:
    """The recipe's samples, with every reference checked; None where it asks for none.

    Raises RecipeError or FileNotFoundError for what cannot be drawn.
    """
    wanted = config.samples
    if not wanted.every:
        return None
    networks = family_of(model).networks
    lacking = [kind for kind in networks if not (config.trains(kind) or (config.weights_dir / kind).is_dir())]
    if lacking:
        raise RecipeError(
            f"samples.every: drawing needs every network, and weights {config.weights!r} lack "
            f"{', '.join(lacking)}; convert them too, or leave samples out"
        )
    options = {name: getattr(wanted, name) for name in ("steps", "guidance", "true_cfg", "image_cfg")}
    try:
        settings = make_settings(model, config.unope, options)
        defaults = JobDefaults(model, wanted.width, wanted.height, wanted.seed, ref_size=wanted.ref_size)
        jobs = read_jobs(Path(wanted.jobs), defaults)
        check_pictures(model, settings, jobs)
    except ValueError as error:
        raise RecipeError(f"samples: {error}") from None
    for line in cut_prompts(model, (job.prompt for job in jobs)):
        tqdm.write(line)
    return Samples(model, jobs, settings)


def draw_samples(
    samples: Samples, config: TrainConfig, frozen: dict[str, Params], mesh: Mesh, state: TrainState
) -> Image.Image:
    """The sheet of what the averaged (or else the trained) weights draw, a picture on each device at a time.
    The LoRA runs as a side path, and all weights keep their sharding.

    Raises FloatingPointError for pictures with NaN or infinite values.
    """
    trained = state.ema or state.trainable
    cast = {kind: jax.tree.map(lambda leaf: leaf.astype(config.dtype), trained[kind]) for kind in trained}
    model = Model(samples.model, join(frozen, cast), dtype=config.dtype)
    abreast = mesh.shape["data"] * mesh.shape["fsdp"]
    made: dict[int, Image.Image] = {}
    shapes = [batch_shape(samples.model, samples.settings, job) for job in samples.jobs]
    for batch in batches(range(len(samples.jobs)), lambda i: shapes[i], abreast):
        requests = [make_request(samples.jobs[i], samples.model) for i in batch]
        filled = requests + requests[-1:] * (abreast - len(batch))
        made |= zip(batch, sample_batch(model, filled, samples.settings), strict=False)
    return preview_sheet(samples, [made[i] for i in range(len(samples.jobs))])


def preview_sheet(samples: Samples, pictures: list[Image.Image]) -> Image.Image:
    """A row for each job: its references, as the model sees them, and what was drawn."""
    most = max(len(job.refs) for job in samples.jobs)
    rows = []
    for job, picture in zip(samples.jobs, pictures, strict=True):
        refs = make_request(job, samples.model).refs
        rows.append(Row([*refs, *[None] * (most - len(refs)), picture], job.prompt))
    return contact_sheet([*["reference"] * most, "sample"], rows)


def sheet_path(config: TrainConfig, number: int) -> Path:
    """The file of step `number`'s sheet."""
    return Path(config.workdir) / "samples" / f"step_{number:06}.png"


def read_sheet(path: Path) -> Image.Image | None:
    """A sheet that was drawn; None where there is none, or a damaged one."""
    try:
        return read_image(path)
    except (FileNotFoundError, ImageError):
        return None


def write_sheet(path: Path, picture: Image.Image) -> None:
    """Writes a sheet atomically, since one that exists is not drawn again."""
    with atomic_write(path) as partial:
        picture.save(partial, format="png")
