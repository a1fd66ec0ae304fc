"""The suites "dreambench-single" and "dreambench-multi": prompts -> pictures -> the paper's scores.

The list is drawn as `drawn_list` says; OUT/scores.json holds every setting, a row for each picture, means and
intervals.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from uno_jax.evaluation.drawn_list import (
    SHOWN,
    DrawnListArgs,
    Sampling,
    check_drawing,
    draw_share,
    picture_paths,
    prepare_drawing,
    settings_of_drawing,
    sharing_of,
    versions,
    write_scores,
)
from uno_jax.evaluation.dreambench import prompts as dreambench
from uno_jax.evaluation.dreambench.prompts import Prompt
from uno_jax.evaluation.dreambench.rows import load_encoders, score_rows
from uno_jax.evaluation.dreambench.scores import summarise_rows
from uno_jax.evaluation.dreambench.table import score_lines, write_table
from uno_jax.evaluation.encoders import check_encoder
from uno_jax.support import images
from uno_jax.support.bounds import Bounds, Side
from uno_jax.support.command_line import exit_on
from uno_jax.support.compile_cache import use_compile_cache
from uno_jax.support.errors import CheckpointError, RecipeError
from uno_jax.support.folder_lock import locked
from uno_jax.weights.identity import weights_id

SCORES = ("dino", "clip_i", "clip_t", "dino_worst", "clip_i_worst", "copied_border", "copied_layout")


@dataclass(frozen=True, kw_only=True)
class DreamBenchArgs(DrawnListArgs):
    """Options of both suites."""

    data: Path
    """DreamBooth's `dataset` folder: a folder of photos for each subject."""
    suite: ClassVar[str]
    out: Path = Path("out/dreambench")
    """Directory for prompts.json, the pictures and scores.json. The same command again continues."""
    lists: Path | None = None
    """List in UNO's form in place of the suite's own prompts; references are looked up in --data."""
    encoders: Path = Path("weights/encoders")
    """Directory with dino/ and clip/, which `uno-convert vit` and, for CLIP's text, `uno-convert clip` wrote.
    """
    resolutions: tuple[Side, ...] = ()
    """Sides of square pictures, as 512 704: each is drawn and scored in OUT/{side}, and OUT/table.md has the
    scores of all. Default: one resolution, by --width and --height.
    """


@dataclass(frozen=True, kw_only=True)
class SingleArgs(DreamBenchArgs):
    """Draw DreamBench's prompts of one subject and score them by DINO, CLIP-I and CLIP-T. The settings are
    the paper's, and where it gives none, those of UNO's program.
    """

    suite: ClassVar[str] = "dreambench-single"


@dataclass(frozen=True, kw_only=True)
class MultiArgs(DreamBenchArgs):
    """Draw DreamBench's prompts of several subjects and score them by DINO, CLIP-I and CLIP-T. The settings
    are the paper's, and where it gives none, those of UNO's program.
    """

    suite: ClassVar[str] = "dreambench-multi"
    subjects: Annotated[int, Bounds(2, 4)] = 2
    """Subjects of each prompt: 2, 3 or 4."""


class Work(NamedTuple):
    """What a command line asks for, after all checks; `sampling` is None when nothing is to be drawn."""

    prompts: list[Prompt]
    photos: dict[str, list[Path]]
    sampling: Sampling | None


def evaluate_dreambench(args: DreamBenchArgs) -> None:
    """The command line behind the suites dreambench-single and dreambench-multi."""
    use_compile_cache()
    with contextlib.ExitStack() as held:
        with exit_on(ValueError, OSError):
            check_args(args)
            runs = resolution_runs(args)
            for folder in dict.fromkeys([args.out, *(run.out for run in runs)]):
                held.enter_context(locked(folder, sharing_of(args)))
            works = [prepare_work(run) for run in runs]
        with exit_on(CheckpointError, RecipeError, images.ImageError, FloatingPointError, OSError):
            records = []
            for run, work in zip(runs, works, strict=True):
                if (record := score_pictures(run, work)) is not None:
                    records.append(record)
                    print("\n".join(score_lines(record)))
                    print(f"wrote {run.out / 'scores.json'}")
            if args.resolutions and len(records) == len(runs):
                print("\n".join(write_table(args.out, records)))


def resolution_runs(args: DreamBenchArgs) -> list[DreamBenchArgs]:
    """The command line at each of --resolutions, in OUT/{resolution}; itself where there are none."""
    return [
        replace(args, width=side, height=side, out=args.out / str(side), resolutions=())
        for side in args.resolutions
    ] or [args]


def check_args(args: DreamBenchArgs) -> None:
    """Raises ValueError or OSError saying what to change."""
    if not args.data.is_dir():
        raise FileNotFoundError(
            f"no folder {args.data}: --data is DreamBooth's dataset, with a folder for each subject"
        )
    own = {"--width": args.width, "--height": args.height, "--score-only": args.score_only}
    if args.resolutions and (given := [name for name, value in own.items() if value is not None]):
        raise ValueError(f"--resolutions sets width and height and draws: leave out {', '.join(given)}")
    if len(set(args.resolutions)) < len(args.resolutions):
        raise ValueError(f"--resolutions names one twice: {' '.join(map(str, args.resolutions))}")
    check_drawing(args)


def prepare_work(args: DreamBenchArgs) -> Work:
    """Checks everything before weights are loaded.

    Raises ValueError or OSError saying what to change.
    """
    prompts = choose_prompts(args)
    photos = check_photos(args.data, prompts)
    for name in ("dino", "clip"):
        check_encoder(args.encoders / name)
    return Work(prompts, photos, prepare_drawing(args, entries_of(prompts)))


def choose_prompts(args: DreamBenchArgs) -> list[Prompt]:
    if args.lists is not None:
        return dreambench.listed_prompts(args.lists, args.data)
    if isinstance(args, MultiArgs):
        return dreambench.multi_prompts(args.data, args.subjects)
    return dreambench.single_prompts(args.data)


def check_photos(data: Path, prompts: Sequence[Prompt]) -> dict[str, list[Path]]:
    """All photos of all subjects, after reading each of them.

    Raises FileNotFoundError naming the first that cannot be read, and references that do not exist.
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


def entries_of(prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """The prompts as a list in UNO's form."""
    return [
        {"prompt": prompt.prompt, "image_paths": [str(each.absolute()) for each in prompt.references]}
        for prompt in prompts
    ]


def score_pictures(args: DreamBenchArgs, work: Work) -> dict[str, Any] | None:
    """Draws this process's share, scores when all is drawn, and returns what scores.json holds; None while
    other processes have pictures to draw.
    """
    if not draw_share(args, work.sampling):
        return None
    encoders = load_encoders(args.encoders)
    paths = picture_paths(args, len(work.prompts))
    prompts = [prompt for prompt in work.prompts for _ in range(args.num_images)]
    rows = score_rows(encoders, prompts, paths, work.photos)
    record = {**settings_record(args, work, paths), "scores": summarise_rows(rows, SCORES), "rows": rows}
    write_scores(args.out, record)
    return record


def settings_record(args: DreamBenchArgs, work: Work, pictures: Sequence[Path]) -> dict[str, Any]:
    """Every setting that a score depends on."""
    return {
        "suite": args.suite,
        "prompts": len(work.prompts),
        "lists": None if args.lists is None else str(args.lists),
        "num_images": args.num_images,
        "encoders": {name: weights_id(args.encoders / name) for name in ("dino", "clip")},
        "versions": versions(),
        **settings_of_drawing(args, work.sampling, pictures),
    }
