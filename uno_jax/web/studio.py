"""A form's values -> pictures in the history's folder, one drawing at a time.

The weights are those that `uno-sample` would load for the same LoRAs and strengths, so that a picture's
record draws it again there.
"""

import shutil
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from uno_jax.families.model import Model
from uno_jax.families.progress import Progress, Watch
from uno_jax.families.registry import family_of
from uno_jax.sampling.generate import SEED, batches
from uno_jax.sampling.job_list import Entry, Job, JobDefaults, make_job, picture_reader
from uno_jax.sampling.request import check_memory, check_pictures, check_turns, make_settings
from uno_jax.sampling.results import claim_number, common_record, plan_outputs, write_output
from uno_jax.sampling.run import Work, draw_batch, shape_of
from uno_jax.sampling.settings import ModelArgs, choose_unope, given_options
from uno_jax.support.digests import file_hash
from uno_jax.support.images import read_size
from uno_jax.weights.load import (
    default_dtype,
    held_bytes,
    load_model,
    read_model_config,
    read_tokenizer,
)
from uno_jax.weights.loras import find_loras, read_loras
from uno_jax.weights.names import find_model
from uno_jax.weights.sample_mesh import mesh_of

MAX_REFS = 4
MAX_IMAGES = 16
REFERENCES = "references"  # folder of the uploads, beside the pictures


class Cancelled(Exception):
    """A drawing was ended by who began it."""


class Form(NamedTuple):
    """What is asked for. `options` are settings of the model's family by name, in place of those of the
    command line; `strengths` those of the LoRAs in the studio's order.
    """

    prompt: str
    refs: Sequence[Path] = ()
    negative: str = ""
    width: int | None = None
    height: int | None = None
    seed: int = SEED
    num_images: int = 1
    options: dict[str, Any] = {}
    strengths: Sequence[float] = ()


def check_count(refs: Sequence[object]) -> None:
    """Raises ValueError for more references than the page takes."""
    if len(refs) > MAX_REFS:
        raise ValueError(f"{len(refs)} references, at most {MAX_REFS} can be used")


class Studio:
    """Owns the loaded model, the folder of the history, and the right to draw."""

    def __init__(self, args: ModelArgs, folder: Path) -> None:
        """Checks what the arguments name; loads nothing yet.

        Raises ValueError or OSError saying what to change.
        """
        self.args, self.folder = args, folder
        self.config = read_model_config(args.model)
        placed = find_loras(args.lora, find_model(args.model))
        self.loras = [(each.path, each.strength) for each in placed]
        added = read_loras(placed, self.config)  # they fit, and go together
        self.notes = added.notes if added else ()
        self.tokenizer = read_tokenizer(args.model, self.config)
        self._loaded: tuple[tuple[str, ...], Model] | None = None
        self._drawing = threading.Lock()
        self._ended: dict[str, threading.Event] = {}  # by the owner of a drawing, also of one that waits

    def default_values(self) -> dict[str, Any]:
        """What the command line or else the model says of each setting."""
        settings = make_settings(self.config, None, given_options(self.args))
        return {field: getattr(settings, field) for field in settings.__dataclass_fields__}

    def names_with(self, strengths: Sequence[float]) -> tuple[str, ...]:
        """The LoRAs with strengths, as on a command line; those of strength 0 are left out."""
        pairs = zip(self.loras, strengths, strict=True)
        return tuple(f"{path}:{strength:g}" for (path, _), strength in pairs if strength) or ("none",)

    def draw(self, form: Form, owner: str, watch: Watch) -> list[Path]:
        """Draws the form's pictures, one drawing at a time, and returns their files. `owner` may `cancel` it;
        `watch` is told of each phase and step.

        Raises ValueError, images.ImageError or OSError for what cannot be drawn, Cancelled, and
        FloatingPointError.
        """
        ended = self._ended[owner] = threading.Event()

        def hear(progress: Progress) -> None:
            if ended.is_set():
                raise Cancelled
            watch(progress)

        try:
            while not self._drawing.acquire(timeout=0.2):
                hear(Progress("waiting"))
            try:
                return self._draw(form, hear)
            finally:
                self._drawing.release()
        finally:
            self._ended.pop(owner, None)

    def cancel(self, owner: str) -> bool:
        """Ends the drawing of `owner` at its next step, or before it begins; whether there is one."""
        if owner not in self._ended:
            return False
        self._ended[owner].set()
        return True

    def _draw(self, form: Form, watch: Watch) -> list[Path]:
        names = self.names_with(form.strengths)
        loras = read_loras(find_loras(names, find_model(self.args.model)), self.config)
        unope = choose_unope(self.args, loras.unope if loras else None)
        settings = make_settings(self.config, unope, given_options(self.args) | form.options)
        job = self.make_job(form)
        check_turns(self.config, self.tokenizer, settings, job)
        check_pictures(self.config, settings, [job])
        self._check_memory(job, form.num_images)
        watch(Progress("loading"))
        model = self._model_with(names)
        common = common_record(self.args.model, names, str(model.compute_dtype), self.args.base)
        outputs = plan_outputs([job], settings, form.num_images, None, common)
        work = Work(self.config, settings, loras, mesh_of(model), outputs)
        made: list[Path] = []
        with jax.set_mesh(work.mesh):
            for batch in batches(range(form.num_images), partial(shape_of, work), self.args.batch_size):
                for number, (picture, drawn) in draw_batch(model, work, batch, watch).items():
                    output = outputs[number]._replace(path=claim_number(self.folder))
                    made.append(write_output(output, picture, drawn))
        return made

    def make_job(self, form: Form) -> Job:
        """The job of a form, whose uploads are kept beside the pictures under their hashes.

        Raises ValueError, images.ImageError or OSError.
        """
        if not form.prompt.strip():
            raise ValueError("the prompt is empty: say what to draw")
        check_count(form.refs)
        if not 1 <= form.num_images <= MAX_IMAGES:
            raise ValueError(f"the number of pictures must be 1 to {MAX_IMAGES}, got {form.num_images}")
        refs = tuple(self._kept(path) for path in form.refs)
        defaults = JobDefaults(self.config, form.width, form.height, form.seed, form.num_images)
        entry = Entry(form.prompt, refs)._replace(negative=form.negative.strip() or None)
        return make_job(defaults, picture_reader(self.config), entry)

    def _kept(self, upload: Path) -> Path:
        read_size(upload, upload.name)  # refuses what is no picture
        kept = self.folder / REFERENCES / f"{file_hash(upload)}{upload.suffix.lower()}"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(upload, kept)
        return kept

    def _check_memory(self, job: Job, pictures: int) -> None:
        """Raises RecipeError where the weights, or they and a batch, cannot fit into memory."""
        dtype, kinds = self.args.dtype or default_dtype(), family_of(self.config).networks
        loaded = self._loaded is not None
        weights = (
            0
            if loaded
            else held_bytes(find_model(self.args.model), kinds, dtype, self.args.base, self.args.offload)
        )
        sizes = ((job.width, job.height), *(ref.size for ref in job.refs))
        check_memory(self.config, weights, sizes, min(self.args.batch_size, pictures), dtype)

    def _model_with(self, names: tuple[str, ...]) -> Model:
        if self._loaded is None or self._loaded[0] != names:
            self._loaded = None  # before the next is loaded: both might not fit in memory
            dtype = self.args.dtype or default_dtype()
            args = self.args
            self._loaded = names, load_model(args.model, names, dtype, args.base, offload=args.offload)
        return self._loaded[1]
