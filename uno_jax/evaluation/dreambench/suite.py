"""The suites "dreambench-single" and "dreambench-multi": prompts -> pictures -> the paper's scores.

OUT/prompts.json is what is drawn, OUT/{prompt}_{image}.png the pictures as `uno_jax.sample` makes and finds
them again, OUT/scores.json every setting, a row a picture, means and intervals.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

from uno_jax.evaluation.dreambench import prompts as dreambench
from uno_jax.evaluation.dreambench.prompts import Prompt
from uno_jax.evaluation.dreambench.rows import load_encoders, score_rows
from uno_jax.evaluation.dreambench.scores import summary
from uno_jax.evaluation.encoders import check_encoder
from uno_jax.sampling import run as sample
from uno_jax.sampling.job_list import is_finished, weights_id
from uno_jax.sampling.run import Drawing
from uno_jax.support import images
from uno_jax.support.atomic import whole_file
from uno_jax.support.command_line import errors_told, parse_args
from uno_jax.support.compile_cache import use_compile_cache
from uno_jax.weights.checkpoint import CheckpointError

SCORES = ("dino", "clip_i", "clip_t", "dino_worst", "clip_i_worst", "copied_border", "copied_layout")
PACKAGES = ("jax", "jaxlib", "flax", "numpy", "pillow")
SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Args(Drawing):
    """Draw DreamBench's prompts and score them by DINO, CLIP-I and CLIP-T. The settings are the paper's, and
    where it says none, UNO's program's.
    """

    data: Path
    """DreamBooth's `dataset` folder: a folder of photos for each subject."""
    suite: Literal["dreambench-single", "dreambench-multi"] = "dreambench-single"
    """One subject a prompt, or several."""
    out: Path = Path("out/dreambench")
    """Directory for prompts.json, the pictures and scores.json. The same command again continues."""
    lists: Path | None = None
    """A list in UNO's form in place of the suite's own prompts; references are looked up in --data."""
    subjects: int = 2
    """Of dreambench-multi: 2, 3 or 4 in a prompt."""
    encoders: Path = Path("weights/encoders")
    """Directory with dino/ and clip/, as `python -m tools.convert_weights vit --dst DIR/dino` and others
    wrote.
    """
    score_only: Path | None = None
    """Score the pictures of this directory, by any program, named {prompt}_{image}.png; nothing is drawn."""
    num_images: int = 1
    """Pictures a prompt: 1, or 6 as in the paper's tables of two subjects."""
    width: int | None = None
    """Pixels; default the model's resolution (512 for FLUX)."""
    height: int | None = None
    """As width."""
    ref_size: int | None = None
    """Longest side of references in pixels; default the model's, for FLUX 512 for one and
    320 for several.
    """
    seed: int = 3407
    """Of a prompt's first picture; the next has the next seed."""
    process_count: int = 1
    """Of commands that draw at the same time, each its share, into one --out that all see; the one that finds
    all pictures there scores them.
    """
    process_index: int = 0
    """Of this one, from 0."""


class Work(NamedTuple):
    """What a command line asks for, checked; `sampling` is None when nothing is to be drawn."""

    prompts: list[Prompt]
    photos: dict[str, list[Path]]
    sampling: tuple[sample.Args, sample.Work] | None


def evaluate(argv: Sequence[str] | None) -> None:
    """The command line behind --suite dreambench-…"""
    args = parse_args(Args, "python -m uno_jax.evaluate", argv)
    use_compile_cache()
    with errors_told(ValueError, OSError):
        work = prepare(args)
    with errors_told(CheckpointError, images.ImageError, FloatingPointError, OSError):
        record = run(args, work)
    if record is not None:
        for name, score in record["scores"].items():
            low, high = score["interval"]
            print(f"{name} {score['mean']:.4f} (95 % of resampled subjects: {low:.4f} to {high:.4f})")
        print(f"wrote {args.out / 'scores.json'}")


def prepare(args: Args) -> Work:
    """Checks everything before weights are loaded. Raises ValueError or OSError saying what to change."""
    if not args.data.is_dir():
        raise FileNotFoundError(f"no folder {args.data}: --data is DreamBooth's dataset, a folder a subject")
    if not 2 <= args.subjects <= 4:
        raise ValueError(f"--subjects must be 2, 3 or 4, got {args.subjects}")
    if not 0 <= args.process_index < args.process_count:
        raise ValueError(f"--process-index {args.process_index} is none of {args.process_count} processes")
    if args.num_images < 1:
        raise ValueError(f"--num-images must be at least 1, got {args.num_images}")
    prompts = choose_prompts(args)
    photos = check_photos(args.data, prompts)
    for name in ("dino", "clip"):
        check_encoder(args.encoders / name)
    if args.score_only is not None:
        check_pictures(args, len(prompts))
    args.out.mkdir(parents=True, exist_ok=True)
    write_prompts(args.out / "prompts.json", prompts)
    if args.score_only is not None:
        return Work(prompts, photos, None)
    sampling = sample_args(args)
    return Work(prompts, photos, (sampling, sample.prepare(sampling)))


def choose_prompts(args: Args) -> list[Prompt]:
    if args.lists is not None:
        return dreambench.listed_prompts(args.lists, args.data)
    if args.suite == "dreambench-single":
        return dreambench.single_prompts(args.data)
    return dreambench.multi_prompts(args.data, args.subjects)


def check_photos(data: Path, prompts: Sequence[Prompt]) -> dict[str, list[Path]]:
    """All photos of all subjects, each of which can be read. Raises OSError or ImageError naming some that
    cannot, and references that are not there.
    """
    problems, found = [], {}
    for subject in dict.fromkeys(subject for prompt in prompts for subject in prompt.subjects):
        try:
            found[subject] = dreambench.photos(data, subject)
            for path in found[subject]:
                images.read_image(path)
        except (OSError, ValueError) as error:
            problems.append(f"  {error}")
    for path in dict.fromkeys(path for prompt in prompts for path in prompt.references):
        if not path.is_file():
            problems.append(f"  no reference {path}")
    if problems:
        more = [f"  and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise FileNotFoundError("\n".join([f"photos in {data}:", *problems[:SHOWN], *more]))
    return found


def check_pictures(args: Args, count: int) -> None:
    """Raises FileNotFoundError unless --score-only has every picture."""
    missing = [path for path in picture_paths(args, count) if not path.is_file()]
    if missing:
        shown = ", ".join(path.name for path in missing[:SHOWN])
        raise FileNotFoundError(
            f"{args.score_only}: {len(missing)} of {count * args.num_images} pictures are missing: {shown}"
        )


def picture_paths(args: Args, count: int) -> list[Path]:
    folder = args.score_only or args.out
    return [folder / f"{index}_{j}.png" for index in range(count) for j in range(args.num_images)]


def write_prompts(path: Path, prompts: Sequence[Prompt]) -> None:
    entries = [
        {"prompt": prompt.prompt, "image_paths": [str(each.absolute()) for each in prompt.references]}
        for prompt in prompts
    ]
    with whole_file(path) as aside:
        aside.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def sample_args(args: Args) -> sample.Args:
    """The same settings for `uno_jax.sample`."""
    own = ("width", "height", "ref_size", "seed", "num_images", "out")
    names = (*(field.name for field in fields(Drawing)), *own)
    return sample.Args(jobs=args.out / "prompts.json", **{name: getattr(args, name) for name in names})


def run(args: Args, work: Work) -> dict[str, Any] | None:
    """Draws this process's share, scores when all is drawn, and returns what scores.json holds; None while
    other processes have pictures to draw.
    """
    if work.sampling is not None:
        arguments, drawn = work.sampling
        sample.run(arguments, drawn, args.process_index, args.process_count)
        if missing := sum(not is_finished(output) for output in drawn.outputs):
            print(f"drew its share; {missing} of {len(drawn.outputs)} pictures are others' to draw")
            return None
    encoders = load_encoders(args.encoders)
    paths = picture_paths(args, len(work.prompts))
    prompts = [prompt for prompt in work.prompts for _ in range(args.num_images)]
    rows = score_rows(encoders, prompts, paths, work.photos)
    record = {**settings_record(args, work), "scores": summary(rows, SCORES), "rows": rows}
    with whole_file(args.out / "scores.json") as aside:
        aside.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return record


def settings_record(args: Args, work: Work) -> dict[str, Any]:
    """Every setting that a score depends on."""
    record: dict[str, Any] = {
        "suite": args.suite,
        "prompts": len(work.prompts),
        "lists": None if args.lists is None else str(args.lists),
        "num_images": args.num_images,
        "encoders": {name: weights_id(args.encoders / name) for name in ("dino", "clip")},
        "versions": {name: version(name) for name in PACKAGES},
    }
    if work.sampling is None:
        return record | {"pictures": str((args.score_only or args.out).absolute())}
    _, drawn = work.sampling
    first = drawn.outputs[0].record
    return record | {name: value for name, value in first.items() if name not in ("prompt", "refs")}
