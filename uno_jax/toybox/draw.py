"""Named subjects in named scenes: a list with seeds -> pictures.

    python -m uno_jax.toybox.draw --jobs list.json --out DIR
    # list.json: [{"subjects": ["tiger face"], "scene": "in the snow", "seed": 3}, …]

An entry has one or two subjects, and a scene by its name or by one of its phrases in captions. Entry i
becomes DIR/{i}.png.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from uno_jax.support.atomic import atomic_write
from uno_jax.support.bounds import Bounds
from uno_jax.support.command_line import exit_on, parse_args
from uno_jax.support.folder_lock import locked
from uno_jax.toybox.compose import LARGEST, SMALLEST, compose
from uno_jax.toybox.scenes import SCENES
from uno_jax.toybox.subjects import SPLITS, Subject, SubjectError, load_subjects, read_entries

NAMES = {name: name for name in SCENES} | {
    phrase: name for name, scene in SCENES.items() for phrase in scene.phrases
}


@dataclass(frozen=True)
class Args:
    """Draw a list's subjects in its scenes, each entry with its own seed."""

    jobs: Path
    """JSON list of {"subjects", "scene", "seed"}, with subjects of any split."""
    out: Path
    """Directory for the pictures, in which files of the same names are replaced."""
    size: Annotated[int, Bounds(SMALLEST, LARGEST)] = 128
    """Side of a picture in pixels."""
    subjects: Path | None = None
    """Folder with a manifest.json, to use in place of the shipped subjects."""


class DrawError(ValueError):
    """The list asks for a picture that cannot be drawn."""


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(Args, "python -m uno_jax.toybox.draw", argv)
    with exit_on(DrawError, SubjectError, OSError):
        subjects = {each.name: each for split in SPLITS for each in load_subjects(args.subjects, split)}
        jobs = read_jobs(args.jobs, subjects)
        with locked(args.out):
            for index, (shown, scene, seed) in enumerate(tqdm(jobs, unit="picture")):
                drawn = compose(np.random.default_rng(seed), shown, scene, args.size)
                with atomic_write(args.out / f"{index}.png") as partial:
                    Image.fromarray(drawn.image).save(partial, "PNG", compress_level=3)


def read_jobs(path: Path, subjects: dict[str, Subject]) -> list[tuple[list[Subject], str, int]]:
    """(subjects, name of the scene, seed) of every entry.

    Raises OSError, SubjectError if the file is not a list, or DrawError naming the first bad entry.
    """
    entries = enumerate(read_entries(path))
    return [_parse_job(entry, f"{path}, entry {index}", subjects) for index, entry in entries]


def _parse_job(entry: Any, where: str, subjects: dict[str, Subject]) -> tuple[list[Subject], str, int]:
    if not isinstance(entry, dict) or entry.keys() != {"subjects", "scene", "seed"}:
        raise DrawError(f'{where}: expected {{"subjects", "scene", "seed"}}, got {json.dumps(entry)[:80]}')
    names, scene, seed = entry["subjects"], entry["scene"], entry["seed"]
    if not isinstance(names, list) or len(names) not in (1, 2):
        raise DrawError(f"{where}: subjects must be a list of one or two names, got {json.dumps(names)[:80]}")
    for name in names:
        if not isinstance(name, str) or name not in subjects:
            raise DrawError(f"{where}: no subject {name!r} among the {len(subjects)}")
    if not isinstance(scene, str) or scene not in NAMES:
        raise DrawError(f"{where}: no scene {scene!r}; there are {', '.join(SCENES)}")
    if type(seed) is not int or seed < 0:
        raise DrawError(f"{where}: the seed must be a whole number of 0 or more, got {seed!r}")
    return [subjects[name] for name in names], NAMES[scene], seed


if __name__ == "__main__":
    main()
