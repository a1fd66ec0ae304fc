"""What the suites that draw a list of prompts share: their options, the drawing, what is said of it.

OUT/prompts.json is the list that is drawn; OUT/{prompt}_{image}.png are the pictures, which `uno-sample`'s
code draws and finds again. Where --score-only names a folder, the pictures are that folder's.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from tyro.conf import FlagCreatePairsOff

from uno_jax.sampling.results import is_finished
from uno_jax.sampling.run import Work as SampleWork
from uno_jax.sampling.run import check_outputs, draw_missing
from uno_jax.sampling.run import prepare_work as prepare_sampling
from uno_jax.sampling.settings import ModelArgs, SampleArgs
from uno_jax.support import images
from uno_jax.support.atomic import atomic_write, check_output_folder
from uno_jax.support.bounds import Bounds, Count, RefSide, Seed, Side
from uno_jax.support.words import counted

PROMPTS = "prompts.json"
PACKAGES = ("jax", "jaxlib", "flax", "numpy", "pillow")
SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class DrawnListArgs(ModelArgs):
    """Options of the suites that draw a list."""

    out: Path = Path("out/evaluation")
    """Directory for prompts.json, the pictures and scores.json. The same command again continues."""
    score_only: Path | None = None
    """Directory of pictures named {prompt}_{image}.png, by any program, to score in place of drawing."""
    num_images: Count = 1
    """Pictures of each prompt: 1; in the paper's tables of two subjects 6, in XVerseBench's 4."""
    width: Side | None = None
    """Width in pixels; default the model's resolution (512 for FLUX)."""
    height: Side | None = None
    """Height in pixels; default the model's resolution (512 for FLUX)."""
    ref_size: RefSide | None = None
    """Longest side of references in pixels; default the model's, for FLUX 512 for one and
    320 for several.
    """
    seed: Seed = 3407
    """Seed of a prompt's first picture; the next has the next seed."""
    overwrite: Annotated[bool, FlagCreatePairsOff] = False
    """Replace pictures that exist and were made with other settings."""
    process_count: Count = 1
    """Number of commands that draw at the same time, each its share, into one --out that all can reach; the
    last to finish finds all pictures and scores them.
    """
    process_index: Annotated[int, Bounds(0, 999_999)] = 0
    """Index of this process, from 0."""


class Sampling(NamedTuple):
    """What is to be drawn, after all checks."""

    args: SampleArgs
    work: SampleWork


def sharing_of(args: DrawnListArgs) -> str:
    """What commands have in common that draw together; empty for one that draws alone."""
    if args.process_count == 1:
        return ""
    return repr(replace(args, process_index=0, out=Path(), batch_size=1))


def check_drawing(args: DrawnListArgs) -> None:
    """Raises ValueError or OSError for a share that there is not, and for an unusable --out."""
    if not args.process_index < args.process_count:
        raise ValueError(
            f"--process-index must be between 0 and {args.process_count - 1}, got {args.process_index}"
        )
    check_output_folder("--out", args.out)


def prepare_drawing(args: DrawnListArgs, entries: Sequence[dict[str, Any]]) -> Sampling | None:
    """Writes the list of `entries`, in UNO's form, and checks all that is needed to draw it; None where
    pictures are given.

    Raises ValueError or OSError saying what to change.
    """
    if args.score_only is not None:
        check_pictures(args, len(entries))
    args.out.mkdir(parents=True, exist_ok=True)
    with atomic_write(args.out / PROMPTS) as partial:
        partial.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    if args.score_only is not None:
        return None
    sampling = sample_args(args)
    work = prepare_sampling(sampling)
    check_outputs(sampling, work)
    return Sampling(sampling, work)


def check_pictures(args: DrawnListArgs, count: int) -> None:
    """Raises FileNotFoundError unless --score-only has every picture."""
    missing = [path for path in picture_paths(args, count) if not path.is_file()]
    if missing:
        shown = ", ".join(path.name for path in missing[:SHOWN])
        raise FileNotFoundError(
            f"{args.score_only} lacks {len(missing)} of {count * args.num_images} pictures: {shown}"
        )


def picture_paths(args: DrawnListArgs, count: int) -> list[Path]:
    """The pictures of `count` prompts."""
    folder = args.score_only or args.out
    return [folder / f"{index}_{j}.png" for index in range(count) for j in range(args.num_images)]


def sample_args(args: DrawnListArgs) -> SampleArgs:
    """The same settings for `uno-sample`."""
    own = ("width", "height", "ref_size", "seed", "num_images", "out", "overwrite")
    names = (*(field.name for field in fields(ModelArgs)), *own)
    return SampleArgs(jobs=args.out / PROMPTS, **{name: getattr(args, name) for name in names})


def draw_share(args: DrawnListArgs, sampling: Sampling | None) -> bool:
    """Draws this process's share; whether all is drawn."""
    if sampling is None:
        return True
    outputs = sampling.work.outputs
    draw_missing(sampling.args, sampling.work, args.process_index, args.process_count)
    if missing := sum(not is_finished(output) for output in outputs):
        print(f"this process drew its share; others still draw {missing} of {len(outputs)} pictures")
    return not missing


def settings_of_drawing(
    args: DrawnListArgs, sampling: Sampling | None, pictures: Sequence[Path]
) -> dict[str, Any]:
    """The resolution of the pictures, and every setting that they depend on, or where they are from.

    Raises images.ImageError naming a picture that cannot be read.
    """
    resolution = {"resolution": resolution_of(pictures)}
    if sampling is None:
        return resolution | {"pictures": str((args.score_only or args.out).absolute())}
    first = sampling.work.outputs[0].record
    return resolution | {name: value for name, value in first.items() if name not in ("prompt", "refs")}


def resolution_of(pictures: Sequence[Path]) -> str:
    """WIDTHxHEIGHT, or the commonest of several sizes and how many others there are."""
    (first, _), *others = Counter(images.read_size(path) for path in pictures).most_common()
    more = f" and {counted(len(others), 'other size')}" if others else ""
    return f"{first[0]}x{first[1]}{more}"


def versions() -> dict[str, str]:
    """Releases of the packages that scores depend on."""
    return {name: version(name) for name in PACKAGES}


def write_scores(out: Path, record: dict[str, Any]) -> None:
    """Writes OUT/scores.json."""
    with atomic_write(out / "scores.json") as partial:
        partial.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
