"""The command line of the toybox world: subjects and a seed -> PNGs and their JSON list.

Writes images/*.png, labels.json (subjects and scenes of each entry) and, last of all, pairs.json to --out:
[{"prompt", "image_paths", "image_tgt_path"}], with --masks also "image_tgt_mask_path". Paths are
relative to it; `uno_jax.train` reads it as data and `uno_jax.sample --jobs` as a list of prompts.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image
from tqdm import tqdm
from tyro.conf import FlagCreatePairsOff

from uno_jax.support.atomic import atomic_write, check_output_folder
from uno_jax.support.bounds import Bounds, Seed
from uno_jax.support.command_line import exit_on, parse_args
from uno_jax.support.folder_lock import locked
from uno_jax.support.left_overs import LOCK
from uno_jax.support.words import counted
from uno_jax.toybox.compose import LARGEST, SMALLEST
from uno_jax.toybox.samples import Alike, Sample, diptych, pair, text_image
from uno_jax.toybox.subjects import Split, Subject, SubjectError, load_subjects


class ToyboxError(ValueError):
    """The arguments ask for samples that cannot be made."""


@dataclass(frozen=True)
class Args:
    """Make samples of the toybox world: named subjects in named scenes, with captions."""

    out: Path
    """Directory for the samples, which must be empty or not exist."""
    kind: Literal["pairs", "text-image", "diptychs"] = "pairs"
    """Kind of samples: pairs have references; text-image samples and diptychs (twice as wide) have none."""
    count: Annotated[int, Bounds(1, 10_000_000)] = 1000
    """Number of samples."""
    size: Annotated[int, Bounds(SMALLEST, LARGEST)] = 128
    """Side of a picture in pixels."""
    split: Split = "train"
    """Split of the manifest to take subjects from."""
    references: Literal[1, 2, 3, 4] = 1
    """Number of references, and so of subjects, of each pair."""
    alike: Alike = "subject"
    """What reference and target, or the halves of a diptych, share: the subject; its place, size and rotation
    as well; or the whole picture. The more they share, the sooner a model learns to use the reference.
    """
    crop_second: bool = False
    """Crop the second reference from the target, which teaches copying (an ablation in UNO's paper)."""
    masks: Annotated[bool, FlagCreatePairsOff] = False
    """Write a mask beside each target, white in the boxes around its subjects, to which training may give
    another weight (data.mask_weight).
    """
    seed: Seed = 0
    """Random seed; sample i depends only on the seed and i."""
    subjects: Path | None = None
    """Folder with a manifest.json, to use in place of the shipped subjects."""


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(Args, "uno-toybox", argv)
    with exit_on(ToyboxError, SubjectError, OSError):
        check_args(args)
        subjects = load_subjects(args.subjects, args.split)
        with locked(args.out):
            check_empty(args.out)
            write_samples(args, subjects)
        print(f"wrote {args.out / 'pairs.json'} ({counted(args.count, 'sample')})")


def check_args(args: Args) -> None:
    """Raises ToyboxError for arguments that cannot work."""
    if args.references != 1 and args.kind != "pairs":
        raise ToyboxError(f"--references is for pairs; {args.kind} have none")
    if args.alike != "subject" and args.kind == "text-image":
        raise ToyboxError("--alike is for pairs and diptychs; text-image samples show a subject once")
    if args.alike == "picture" and args.references != 1:
        raise ToyboxError("--alike picture is for one reference: the target itself")
    if args.masks and args.kind == "diptychs":
        raise ToyboxError("--masks is for pairs and text-image samples")
    if args.crop_second and args.references != 2:
        raise ToyboxError("--crop-second is for --references 2")
    check_output_folder("--out", args.out)


def check_empty(folder: Path) -> None:
    """Raises ToyboxError for a folder that holds anything but a lock."""
    if any(path.name != LOCK for path in folder.iterdir()):
        raise ToyboxError(f"--out {folder} is not empty: name a new directory")


def write_samples(args: Args, subjects: Sequence[Subject]) -> None:
    """Writes the pictures, then labels.json, then pairs.json."""
    (args.out / "images").mkdir(parents=True, exist_ok=True)
    entries, labels = [], []
    for index in tqdm(range(args.count), desc=args.kind, unit="sample"):
        sample = make_sample(args, subjects, index)
        mask = _write_mask(sample, args.out, index) if args.masks else {}
        entries.append(_write_pictures(sample, args.out, index) | mask)
        labels.append(
            {
                "subjects": sample.subjects,
                "scenes": sample.scenes,
                "reference_scenes": sample.reference_scenes,
            }
        )
    _write_json(args.out / "labels.json", labels)
    _write_json(args.out / "pairs.json", entries)


def make_sample(args: Args, subjects: Sequence[Subject], index: int) -> Sample:
    """Sample `index`, with a generator of its own."""
    rng = np.random.default_rng([args.seed, index])
    if args.kind == "pairs":
        return pair(rng, subjects, args.size, args.references, args.alike, args.crop_second)
    if args.kind == "diptychs":
        return diptych(rng, subjects, args.size, alike=args.alike)
    return text_image(rng, subjects, args.size)


def _write_pictures(sample: Sample, folder: Path, index: int) -> dict[str, Any]:
    """Writes the target and its references. Returns their entry in the list."""
    target = f"images/{index:06d}_target.png"
    references = [f"images/{index:06d}_ref{number}.png" for number in range(1, len(sample.references) + 1)]
    for name, pixels in zip((target, *references), (sample.target, *sample.references), strict=True):
        Image.fromarray(pixels).save(folder / name, compress_level=3)
    return {"prompt": sample.prompt, "image_paths": references, "image_tgt_path": target}


def _write_mask(sample: Sample, folder: Path, index: int) -> dict[str, str]:
    """Writes the target's mask. Returns its part of the entry."""
    assert sample.mask is not None
    name = f"images/{index:06d}_mask.png"
    Image.fromarray(sample.mask).save(folder / name, compress_level=3)
    return {"image_tgt_mask_path": name}


def _write_json(path: Path, entries: list[dict[str, Any]]) -> None:
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
