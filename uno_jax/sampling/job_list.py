"""A list of pictures to make -> checked jobs -> files that a later run recognises as finished.

A list is UNO's and DreamBench's JSON form: [{"prompt", "image_paths": [...] or "image_path"}], paths relative
to the list. An entry may have its own "width", "height" and "seed", and a "left_path": the left half of a
diptych of which the right half is to be made. "image_tgt_path" is ignored. Picture j of entry i is written as
{i}_{j}.png, as UNO's script names them, with its settings in {i}_{j}.json.
"""

import hashlib
import json
import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from uno_jax import __version__
from uno_jax.families.flow import sampling_schedule
from uno_jax.networks.config import ModelConfig
from uno_jax.sampling.request import Request, Settings, check_request, prepare_left, prepare_refs, ref_side
from uno_jax.support import images
from uno_jax.weights.names import find_lora, find_model

KEYS = {"prompt", "image_paths", "image_path", "image_tgt_path", "left_path", "width", "height", "seed"}
SHOWN_PROBLEMS = 10
HASHED_WHOLE = 1_000_000  # bytes; larger files of a directory are hashed in samples
SAMPLED, SAMPLE = 32, 16_384  # places, and bytes at each
NO_WEIGHTS = ("_CHECKPOINT_METADATA", "commit_success.txt", "README.md")


class JobError(ValueError):
    """A job list cannot be used; the message names the list and its first bad entries."""


class Reference(NamedTuple):
    """A reference picture's file, and the (width, height) it has for the model."""

    path: Path
    size: tuple[int, int]
    sha256: str


class Job(NamedTuple):
    """Pictures to make of one prompt; `seed` is the first one's, `ref_size` the references' longest side."""

    prompt: str
    refs: tuple[Reference, ...]
    width: int
    height: int
    seed: int
    ref_size: int
    left: Reference | None = None


class Output(NamedTuple):
    """One picture to make, its file, and the settings written beside it."""

    path: Path
    job: Job
    record: dict[str, Any]


@dataclass(frozen=True)
class Checker:
    """What jobs are checked against; reads every picture once, since lists name the same files again and
    again.

    `width`, `height` and `seed` are for entries without their own; None stands for the model's resolution,
    twice that for the width of two halves. `ref_size` is as for `request.ref_side`. Raises ValueError for
    defaults that cannot work.
    """

    config: ModelConfig
    width: int | None = None
    height: int | None = None
    seed: int = 3407
    num_images: int = 1
    ref_size: int | None = None
    seen: dict[tuple[Path, Hashable], Reference] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.job("", ())

    def job(self, prompt: str, paths: Sequence[Path], left: Path | None = None, **own: int) -> Job:
        """A job whose pictures can be read. Raises ValueError or FileNotFoundError."""
        try:
            prompt.encode()
        except UnicodeEncodeError:
            raise JobError(f"the prompt {prompt!r} holds characters that are no text") from None
        side = self.config.mmdit.resolution
        width = side * (1 if left is None else 2) if self.width is None else self.width
        height = side if self.height is None else self.height
        sizes = {"width": width, "height": height, "seed": self.seed} | own
        check_request(self.config, num_images=self.num_images, **sizes)
        longest = ref_side(self.config.mmdit, len(paths), self.ref_size)
        whole = sizes["width"], sizes["height"]

        def look_left(path: Path) -> Reference:
            return self.look(path, whole, lambda picture: prepare_left(picture, *whole))

        def look_ref(path: Path) -> Reference:
            return self.look(
                path, longest, lambda picture: images.prepare_reference(picture, longest, str(path))
            )

        refs = tuple(map(look_ref, paths))
        half = None if left is None else look_left(left)
        return Job(prompt, refs, **sizes, ref_size=longest, left=half)

    def look(self, path: Path, size: Hashable, prepare: Callable[[Image.Image], Image.Image]) -> Reference:
        """Reads a picture and prepares it for that size as sampling will. Raises FileNotFoundError,
        ValueError or images.ImageError naming it.
        """
        if (path, size) not in self.seen:
            prepared = prepare(images.read_image(path))
            self.seen[path, size] = Reference(path.absolute(), prepared.size, file_hash(path))
        return self.seen[path, size]


def file_hash(path: Path) -> str:
    with path.open("rb") as whole:
        return hashlib.file_digest(whole, "sha256").hexdigest()


def read_jobs(path: Path, checker: Checker) -> list[Job]:
    """All jobs of a list, every entry and reference checked. Raises FileNotFoundError, or JobError that tells
    up to SHOWN_PROBLEMS entries.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no job list {path}")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise JobError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(entries, list) or not entries:
        raise JobError(f'{path} must be a list of {{"prompt", "image_paths"}} with at least one entry')
    jobs, problems = [], []
    for index, entry in enumerate(entries):
        try:
            prompt, paths, left, own = parse_entry(entry)
            refs = tuple(path.parent / ref for ref in paths)
            jobs.append(checker.job(prompt, refs, None if left is None else path.parent / left, **own))
        except (ValueError, OSError) as error:
            problems.append(f"  entry {index}: {error}")
    if problems:
        more = len(problems) - SHOWN_PROBLEMS
        shown = problems[:SHOWN_PROBLEMS] + ([f"  and {more} more"] if more > 0 else [])
        raise JobError("\n".join([f"{path} has {len(problems)} bad entries of {len(entries)}:", *shown]))
    return jobs


def parse_entry(entry: Any) -> tuple[str, list[str], str | None, dict[str, int]]:
    """(prompt, reference paths, path of the left half, the entry's own width, height and seed). Raises
    JobError.
    """
    if not isinstance(entry, dict):
        raise JobError(f"expected an object, got {json.dumps(entry)[:80]}")
    if unknown := sorted(entry.keys() - KEYS):
        raise JobError(f"unknown key {', '.join(unknown)}; known are {', '.join(sorted(KEYS))}")
    if not isinstance(entry.get("prompt"), str):
        raise JobError('"prompt" must be a text' if "prompt" in entry else '"prompt" is missing')
    if "image_path" in entry and "image_paths" in entry:
        raise JobError('"image_path" and "image_paths" are both given')
    paths = [entry["image_path"]] if "image_path" in entry else entry.get("image_paths", [])
    if not isinstance(paths, list) or not all(isinstance(path, str) and path for path in paths):
        raise JobError(f'"image_paths" must be a list of paths, got {json.dumps(paths)[:80]}')
    left = entry.get("left_path")
    if left is not None and not (isinstance(left, str) and left):
        raise JobError(f'"left_path" must be a path, got {json.dumps(left)[:80]}')
    own = {key: entry[key] for key in ("width", "height", "seed") if key in entry}
    if wrong := [key for key, value in own.items() if type(value) is not int]:
        raise JobError(f'"{wrong[0]}" must be a whole number, got {json.dumps(own[wrong[0]])[:80]}')
    return entry["prompt"], paths, left, own


def is_picture(out: Path) -> bool:
    """Whether `out` names a single picture, not a directory of them."""
    return out.suffix.lower() == ".png"


def plan(
    jobs: list[Job], settings: Settings, num_images: int, out: Path, common: dict[str, Any]
) -> list[Output]:
    """Every picture of every job, in `out`: a directory, or a .png file for the only picture. `common` is
    what the records have in common.
    """
    outputs = []
    for index, job in enumerate(jobs):
        for j in range(num_images):
            path = out if is_picture(out) else out / f"{index}_{j}.png"
            own = job._replace(seed=job.seed + j)
            outputs.append(Output(path, own, common | make_record(own, settings)))
    return outputs


def make_record(job: Job, settings: Settings) -> dict[str, Any]:
    """The settings of one picture as JSON values: what must be equal for a finished picture to be kept."""
    shift = settings.guidance is not None
    left = {} if job.left is None else {"left": reference_record(job.left)}
    schedule = sampling_schedule(settings.steps, job.width, job.height, shift)
    return {
        "prompt": job.prompt,
        "refs": [reference_record(ref) for ref in job.refs],
        **left,
        "width": job.width,
        "height": job.height,
        "seed": job.seed,
        "steps": settings.steps,
        "guidance": settings.guidance,
        "true_cfg": settings.true_cfg,
        "unope": settings.unope.variant,
        "offset_scale": settings.unope.offset_scale,
        "ref_size": job.ref_size,
        "schedule": [float(t) for t in schedule],
    }


def reference_record(ref: Reference) -> dict[str, Any]:
    return {"path": str(ref.path), "size": list(ref.size), "sha256": ref.sha256}


def is_finished(output: Output) -> bool:
    """Whether the picture is there with these very settings."""
    try:
        recorded = json.loads(output.path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return output.path.is_file() and recorded == output.record


def shape(job: Job) -> tuple:
    """Pictures of equal shape make a batch: size, whether half is given, and the references' sizes."""
    return job.width, job.height, job.left is not None, tuple(ref.size for ref in job.refs)


def make_request(job: Job, config: ModelConfig) -> Request:
    """What `generate.sample_batch` needs. References are read again: not all fit in memory."""
    names = [str(ref.path) for ref in job.refs]
    pictures = [images.read_image(name) for name in names]
    refs = prepare_refs(config, pictures, job.ref_size, names)
    left = job.left and prepare_left(images.read_image(str(job.left.path)), job.width, job.height)
    return Request(job.prompt, refs, job.width, job.height, job.seed, left)


def write(output: Output, picture: Image.Image) -> None:
    """Writes the picture, then its settings: both aside first, and the settings last, since they say it is
    done.
    """
    output.path.parent.mkdir(parents=True, exist_ok=True)
    record = output.path.with_suffix(".json")
    asides = {final: final.with_name(f".{final.name}.partial") for final in (output.path, record)}
    try:
        picture.save(asides[output.path], format="png")
        asides[record].write_text(json.dumps(output.record, indent=1) + "\n", encoding="utf-8")
        record.unlink(missing_ok=True)  # the old settings must not stand beside the new picture
        for final, aside in asides.items():
            os.replace(aside, final)
    finally:
        for aside in asides.values():
            aside.unlink(missing_ok=True)


def common_record(model: str, lora: str, dtype: str) -> dict[str, str | None]:
    """What the settings of all pictures have in common; `model` and `lora` as they were named."""
    record: dict[str, str | None] = {"version": __version__, "dtype": dtype}
    directory = find_model(model)
    for name, path in (("model", directory), ("lora", find_lora(lora, directory))):
        record[name] = None if path is None else str(path.absolute())
        record[f"{name}_id"] = None if path is None else weights_id(path)
    return record


def weights_id(path: Path) -> str:
    """Tells one set of weights from another: a hash of a file, or of a directory's files, of large ones their
    size and the parts at SAMPLED places. A model's card is left out, and where and when an orbax checkpoint
    was written.
    """
    if path.is_file():
        return file_hash(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file() and file.name not in NO_WEIGHTS):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path)} {size}\n".encode())
        with file.open("rb") as stream:
            if size <= HASHED_WHOLE:
                digest.update(stream.read())
                continue
            for place in range(SAMPLED):
                stream.seek(place * (size - SAMPLE) // (SAMPLED - 1))
                digest.update(stream.read(SAMPLE))
    return digest.hexdigest()
