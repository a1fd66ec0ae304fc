"""The command line of the toybox world: subjects and a seed -> PNGs and their JSON list.

--out gets images/*.png, labels.json (subjects and scenes of each entry) and, when all else is there,
pairs.json: [{"prompt", "image_paths", "image_tgt_path"}] with paths relative to it. It serves
`uno_jax.train` as data and `uno_jax.sample --jobs` as a list of prompts.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from tqdm import tqdm

from uno_jax.support.atomic import atomic_write
from uno_jax.support.command_line import exit_on, parse_args
from uno_jax.toybox.compose import LARGEST, SMALLEST
from uno_jax.toybox.samples import Alike, Sample, diptych, pair, text_image
from uno_jax.toybox.subjects import Split, Subject, SubjectError, load_subjects


class ToyboxError(ValueError):
    """The arguments ask for what cannot be made."""


@dataclass(frozen=True)
class Args:
    """Make samples of the toybox world: named subjects in named scenes, with captions."""

    out: Path
    """Directory for the samples; must be empty or not there."""
    kind: Literal["pairs", "text-image", "diptychs"] = "pairs"
    """Pairs have references; text-image samples and diptychs (twice as wide) have none."""
    count: int = 1000
    """How many samples."""
    size: int = 128
    """Side of a picture in pixels."""
    split: Split = "train"
    """Which subjects of the manifest."""
    references: Literal[1, 2] = 1
    """References, and so subjects, of each pair."""
    alike: Alike = "subject"
    """What reference and target, or the halves of a diptych, share: the subject; its place, size and turn as
    well; the whole picture. The more they share, the sooner a model learns to look there.
    """
    crop_second: bool = False
    """The second reference is cut out of the target, which teaches copying: UNO's ablation of its own way."""
    seed: int = 0
    """Sample i depends on the seed and i alone."""
    subjects: Path | None = None
    """Folder with a manifest.json, in place of the shipped subjects."""


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(Args, "python -m uno_jax.toybox", argv)
    with exit_on(ToyboxError, SubjectError, OSError):
        _check(args)
        subjects = load_subjects(args.subjects, args.split)
        write_samples(args, subjects)


def _check(args: Args) -> None:
    if args.count < 1:
        raise ToyboxError(f"--count must be at least 1, got {args.count}")
    if not SMALLEST <= args.size <= LARGEST:
        raise ToyboxError(f"--size must be from {SMALLEST} to {LARGEST} pixels, got {args.size}")
    if args.references != 1 and args.kind != "pairs":
        raise ToyboxError(f"--references is for pairs; {args.kind} have none")
    if args.alike != "subject" and args.kind == "text-image":
        raise ToyboxError("--alike is for pairs and diptychs; text-image samples show a subject once")
    if args.alike == "picture" and args.references != 1:
        raise ToyboxError("--alike picture is for one reference: the target itself")
    if args.crop_second and args.references != 2:
        raise ToyboxError("--crop-second is for --references 2")
    if args.out.exists() and not args.out.is_dir():
        raise ToyboxError(f"--out {args.out} is a file")
    if args.out.is_dir() and any(args.out.iterdir()):
        raise ToyboxError(f"--out {args.out} is not empty: name a new directory")


def write_samples(args: Args, subjects: Sequence[Subject]) -> None:
    """Write the pictures, then labels.json, then pairs.json."""
    (args.out / "images").mkdir(parents=True, exist_ok=True)
    entries, labels = [], []
    for index in tqdm(range(args.count), desc=args.kind, unit="sample"):
        sample = make_sample(args, subjects, index)
        entries.append(_write_pictures(sample, args.out, index))
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
    rng = np.random.default_rng([args.seed, index])
    if args.kind == "pairs":
        return pair(rng, subjects, args.size, args.references, args.alike, args.crop_second)
    if args.kind == "diptychs":
        return diptych(rng, subjects, args.size, alike=args.alike)
    return text_image(rng, subjects, args.size)


def _write_pictures(sample: Sample, folder: Path, index: int) -> dict[str, Any]:
    """Write the target and its references; returns their entry in the list."""
    target = f"images/{index:06d}_target.png"
    references = [f"images/{index:06d}_ref{number}.png" for number in range(1, len(sample.references) + 1)]
    for name, pixels in zip((target, *references), (sample.target, *sample.references), strict=True):
        Image.fromarray(pixels).save(folder / name, compress_level=3)
    return {"prompt": sample.prompt, "image_paths": references, "image_tgt_path": target}


def _write_json(path: Path, entries: list[dict[str, Any]]) -> None:
    with atomic_write(path) as aside:
        aside.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
