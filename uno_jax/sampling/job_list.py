"""A list of pictures to make -> checked jobs.

A list has one of the forms that training takes (`data.entries`), an array or JSON Lines, paths relative to
the list; targets, scores and keys of other programs are ignored. An entry may have its own "width", "height"
and "seed", a "negative" prompt, a "left_path": the left half of a diptych whose right half is to be made, and
a "start_path": a picture to begin with, perhaps with a "mask_path". In place of "prompt" and "image_paths" it
may have "turns": [{"image_path": …} | {"text": …}, …], in any order.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from uno_jax.data.entries import REFERENCES, DataError, check_keys, prompt_of, references_of
from uno_jax.data.image_files import slash_hint
from uno_jax.data.list_files import read_entries
from uno_jax.families.family import Turn
from uno_jax.families.registry import FAMILIES, family_of
from uno_jax.sampling.request import (
    Request,
    check_mask,
    check_request,
    check_takes,
    prepare_left,
    prepare_mask,
    prepare_refs,
    prepare_start,
)
from uno_jax.support import images
from uno_jax.support.digests import file_hash
from uno_jax.support.json_files import shortened
from uno_jax.support.words import counted

OWN = ("width", "height", "seed")
PATHS = {"left": "left_path", "start": "start_path", "mask": "mask_path"}
KEYS = frozenset({"prompt", "negative", "turns", *PATHS.values(), *REFERENCES, *OWN})
# What options and arguments are called that an entry says otherwise, or that no entry has of its own.
OTHERWISE = {
    "start_image": "start_path",
    "mask": "mask_path",
    "refs": "image_paths",
    "negative_prompt": "negative",
}
# What the command line says for all entries: each family's options, and the two that all have.
FOR_ALL = ("num_images", "ref_size", *(name for family in FAMILIES for name in family.sampler.options))
SHOWN_PROBLEMS = 10


class JobError(ValueError):
    """A job list cannot be used; the message names the list and its first bad entries."""


class Reference(NamedTuple):
    """A reference picture: its file, its (width, height) as the model sees it, and its file's SHA-256."""

    path: Path
    size: tuple[int, int]
    sha256: str


class Job(NamedTuple):
    """Pictures to make of one prompt; `seed` is the first's, `ref_size` the references' longest side. `turns`
    are texts and numbers of references where their order is a list's own.
    """

    prompt: str
    refs: tuple[Reference, ...]
    width: int
    height: int
    seed: int
    ref_size: int
    left: Reference | None = None
    turns: tuple[Turn, ...] = ()
    negative: str | None = None
    start: Reference | None = None
    mask: Reference | None = None


class Entry(NamedTuple):
    """One entry of a list as it is written; `own` holds its own width, height and seed. `turns` as of `Job`,
    the last text among them is the prompt.
    """

    prompt: str
    refs: tuple[Path, ...] = ()
    left: Path | None = None
    own: dict[str, int] = {}
    turns: tuple[Turn, ...] = ()
    negative: str | None = None
    start: Path | None = None
    mask: Path | None = None


class JobDefaults(NamedTuple):
    """What jobs are checked against. `width`, `height` and `seed` are for entries without their own; None
    stands for the model's resolution, twice that for the width of a diptych. `ref_size` None is the model's.
    """

    config: Any
    width: int | None = None
    height: int | None = None
    seed: int = 3407
    num_images: int = 1
    ref_size: int | None = None


Prepare = Callable[[Image.Image, int, int], Image.Image]
PictureReader = Callable[[Path, int | tuple[int, int] | None], Reference]


def picture_reader(config: Any) -> PictureReader:
    """A function that reads a picture and prepares it as sampling will: as a reference of a longest side, or
    as the left half of a picture of (width, height), or leaves it as it is where no size is given. It reads
    each file once, since lists repeat them.

    The function raises FileNotFoundError, ValueError or images.ImageError naming the picture.
    """
    prepare_reference = family_of(config).sampler.prepare_reference

    @cache
    def read(path: Path, size: int | tuple[int, int] | None) -> Reference:
        picture = images.read_image(path)
        if size is None:
            prepared = picture
        elif isinstance(size, tuple):
            prepared = prepare_left(picture, *size)
        else:
            prepared = prepare_reference(picture, size, str(path))
        return Reference(path.absolute(), prepared.size, file_hash(path))

    return read


def make_job(defaults: JobDefaults, read: PictureReader, entry: Entry) -> Job:
    """The job of an entry, its pictures read and checked.

    Raises ValueError or FileNotFoundError for what cannot be drawn.
    """
    config = defaults.config
    texts = (entry.prompt, entry.negative or "", *entry.turns)
    for text in (text for text in texts if isinstance(text, str)):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise JobError(f"the prompt {text!r} is invalid Unicode (a lone surrogate)") from None
    check_takes(config, entry)
    side = config.defaults.resolution
    width = side * (1 if entry.left is None else 2) if defaults.width is None else defaults.width
    height = side if defaults.height is None else defaults.height
    sizes = {"width": width, "height": height, "seed": defaults.seed} | entry.own
    check_request(config, num_images=defaults.num_images, **sizes)
    longest = family_of(config).sampler.reference_side(config, len(entry.refs), defaults.ref_size)
    refs = tuple(read(path, longest) for path in entry.refs)
    left = None if entry.left is None else read(entry.left, (sizes["width"], sizes["height"]))
    start, mask = (None if path is None else read(path, None) for path in (entry.start, entry.mask))
    if start and mask:
        check_mask(mask.size, start.size)
    width, height, seed = (sizes[name] for name in OWN)
    given = (left, entry.turns, entry.negative, start, mask)
    return Job(entry.prompt, refs, width, height, seed, longest, *given)


def read_jobs(path: Path, defaults: JobDefaults) -> list[Job]:
    """All jobs of a list, with every entry and reference checked.

    Raises FileNotFoundError, ValueError for defaults that cannot work, or JobError that names up to
    SHOWN_PROBLEMS entries.
    """
    read = picture_reader(defaults.config)
    make_job(defaults, read, Entry(""))
    if not path.exists():
        raise FileNotFoundError(f"no job list {path}")
    jobs, problems, count = [], [], 0
    try:
        for count, entry in enumerate(read_entries(path), 1):  # noqa: B007
            try:
                jobs.append(make_job(defaults, read, parse_entry(entry, path.parent)))
            except (ValueError, OSError) as error:
                hint = slash_hint(str(error)) if isinstance(error, FileNotFoundError) else ""
                problems.append(f"  entry {count - 1}: {error}{hint}")
    except DataError as error:
        raise JobError(str(error)) from None
    if problems:
        more = len(problems) - SHOWN_PROBLEMS
        shown = problems[:SHOWN_PROBLEMS] + ([f"  and {more} more"] if more > 0 else [])
        bad = counted(len(problems), "bad entry", "bad entries")
        raise JobError("\n".join([f"{path} has {bad} of {count}:", *shown]))
    return jobs


def parse_entry(entry: Any, folder: Path) -> Entry:
    """An entry of a list in `folder`.

    Raises JobError or DataError naming the first wrong key.
    """
    if not isinstance(entry, dict):
        raise JobError(f"expected an object, got {shortened(entry)}")
    check_keys(entry, KEYS)
    check_names(entry)
    given = {field: entry.get(key) for field, key in PATHS.items()}
    for field, path in given.items():
        if path is not None and not (isinstance(path, str) and path):
            raise JobError(f'"{PATHS[field]}" must be a path, got {shortened(path)}')
    negative = entry.get("negative")
    if negative is not None and not isinstance(negative, str):
        raise JobError(f'"negative" must be a text, got {shortened(negative)}')
    own = {key: entry[key] for key in OWN if key in entry}
    if wrong := [key for key, value in own.items() if type(value) is not int]:
        raise JobError(f'"{wrong[0]}" must be a whole number, got {shortened(own[wrong[0]])}')
    if "turns" in entry:
        return parse_turns(entry, folder)._replace(own=own)
    refs = tuple(folder / ref for ref in references_of(entry))
    left, start, mask = (None if path is None else folder / path for path in given.values())
    return Entry(prompt_of(entry), refs, left, own, (), negative, start, mask)


def check_names(entry: dict[str, Any]) -> None:
    """Raises JobError for an option of the command line that is written as an entry's key."""
    written = {key.replace("-", "_"): key for key in entry}
    for name, key in OTHERWISE.items():
        if name in written and key not in entry:
            raise JobError(f'unknown key "{written[name]}": in lists it is called "{key}"')
    if misplaced := [name for name in FOR_ALL if name in written]:
        name, option = written[misplaced[0]], misplaced[0].replace("_", "-")
        raise JobError(f'"{name}" is one for all entries: leave it out, and give --{option}')


def parse_turns(entry: dict[str, Any], folder: Path) -> Entry:
    """An entry with "turns".

    Raises JobError naming what is wrong.
    """
    if more := sorted(entry.keys() & {"prompt", "negative", *PATHS.values(), *REFERENCES}):
        raise JobError(f'"turns" hold the texts and references: leave out "{more[0]}"')
    refs: list[Path] = []
    turns: list[Turn] = []
    given = entry["turns"] if isinstance(entry["turns"], list) else [entry["turns"]]
    for each in given:
        match each:
            case {"text": str(text), **rest} if not rest:
                turns.append(text)
            case {"image_path": str(path), **rest} if path and not rest:
                turns.append(len(refs))
                refs.append(folder / path)
            case _:
                raise JobError(
                    f'"turns" must hold {{"image_path": …}} and {{"text": …}}, got {shortened(each)}'
                )
    texts = [turn for turn in turns if isinstance(turn, str)]
    if not texts:
        raise JobError('"turns" hold no text')
    return Entry(texts[-1], tuple(refs), turns=tuple(turns))


def make_request(job: Job, config: Any) -> Request:
    """What `generate.sample_batch` needs. References are read again, since a list's may not fit in memory."""
    names = [str(ref.path) for ref in job.refs]
    pictures = [images.read_image(name) for name in names]
    refs = prepare_refs(config, pictures, job.ref_size, names)

    def prepared(part: Reference | None, prepare: Prepare) -> Image.Image | None:
        return part and prepare(images.read_image(str(part.path)), job.width, job.height)

    return Request(
        job.prompt,
        refs,
        job.width,
        job.height,
        job.seed,
        prepared(job.left, prepare_left),
        job.turns,
        job.negative,
        prepared(job.start, prepare_start),
        prepared(job.mask, prepare_mask),
    )
