"""The suites "dreambench-single" and "dreambench-multi": prompts -> pictures -> the paper's scores.

OUT/prompts.json is the list that is drawn; OUT/{prompt}_{image}.png are the pictures, which `uno-sample`'s
code draws and finds again; OUT/scores.json holds every setting, a row for each picture, means and intervals.
"""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from tyro.conf import FlagCreatePairsOff

from uno_jax.evaluation.dreambench import prompts as dreambench
from uno_jax.evaluation.dreambench.prompts import Prompt
from uno_jax.evaluation.dreambench.rows import load_encoders, score_rows
from uno_jax.evaluation.dreambench.scores import summarise_rows
from uno_jax.evaluation.encoders import check_encoder
from uno_jax.sampling.results import is_finished
from uno_jax.sampling.run import Work as SampleWork
from uno_jax.sampling.run import check_outputs, draw_missing
from uno_jax.sampling.run import prepare_work as prepare_sampling
from uno_jax.sampling.settings import ModelArgs, SampleArgs
from uno_jax.support import images
from uno_jax.support.atomic import atomic_write, check_output_folder
from uno_jax.support.bounds import Bounds, Count, RefSide, Seed, Side
from uno_jax.support.command_line import exit_on
from uno_jax.support.compile_cache import use_compile_cache
from uno_jax.support.errors import CheckpointError, RecipeError
from uno_jax.support.folder_lock import locked
from uno_jax.weights.identity import weights_id

SCORES = ("dino", "clip_i", "clip_t", "dino_worst", "clip_i_worst", "copied_border", "copied_layout")
PACKAGES = ("jax", "jaxlib", "flax", "numpy", "pillow")
SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class DreamBenchArgs(ModelArgs):
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
    score_only: Path | None = None
    """Directory of pictures named {prompt}_{image}.png, by any program, to score in place of drawing."""
    num_images: Count = 1
    """Pictures of each prompt: 1, or 6 as in the paper's tables of two subjects."""
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
    sampling: tuple[SampleArgs, SampleWork] | None


def evaluate_dreambench(args: DreamBenchArgs) -> None:
    """The command line behind the suites dreambench-single and dreambench-multi."""
    use_compile_cache()
    with contextlib.ExitStack() as held:
        with exit_on(ValueError, OSError):
            check_args(args)
            held.enter_context(locked(args.out, sharing_of(args)))
            work = prepare_work(args)
        with exit_on(CheckpointError, RecipeError, images.ImageError, FloatingPointError, OSError):
            if (record := score_pictures(args, work)) is not None:
                for name, score in record["scores"].items():
                    low, high = score["interval"]
                    print(f"{name} {score['mean']:.4f} (95 % of resampled subjects: {low:.4f} to {high:.4f})")
                print(f"wrote {args.out / 'scores.json'}")


def sharing_of(args: DreamBenchArgs) -> str:
    """What commands have in common that draw together; empty for one that draws alone."""
    if args.process_count == 1:
        return ""
    return repr(replace(args, process_index=0, out=Path(), batch_size=1))


def check_args(args: DreamBenchArgs) -> None:
    """Raises ValueError or OSError saying what to change."""
    if not args.data.is_dir():
        raise FileNotFoundError(
            f"no folder {args.data}: --data is DreamBooth's dataset, with a folder for each subject"
        )
    if not args.process_index < args.process_count:
        raise ValueError(
            f"--process-index must be between 0 and {args.process_count - 1}, got {args.process_index}"
        )
    check_output_folder("--out", args.out)


def prepare_work(args: DreamBenchArgs) -> Work:
    """Checks everything before weights are loaded.

    Raises ValueError or OSError saying what to change.
    """
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
    work = prepare_sampling(sampling)
    check_outputs(sampling, work)
    return Work(prompts, photos, (sampling, work))


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


def check_pictures(args: DreamBenchArgs, count: int) -> None:
    """Raises FileNotFoundError unless --score-only has every picture."""
    missing = [path for path in picture_paths(args, count) if not path.is_file()]
    if missing:
        shown = ", ".join(path.name for path in missing[:SHOWN])
        raise FileNotFoundError(
            f"{args.score_only} lacks {len(missing)} of {count * args.num_images} pictures: {shown}"
        )


def picture_paths(args: DreamBenchArgs, count: int) -> list[Path]:
    folder = args.score_only or args.out
    return [folder / f"{index}_{j}.png" for index in range(count) for j in range(args.num_images)]


def write_prompts(path: Path, prompts: Sequence[Prompt]) -> None:
    entries = [
        {"prompt": prompt.prompt, "image_paths": [str(each.absolute()) for each in prompt.references]}
        for prompt in prompts
    ]
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def sample_args(args: DreamBenchArgs) -> SampleArgs:
    """The same settings for `uno-sample`."""
    own = ("width", "height", "ref_size", "seed", "num_images", "out", "overwrite")
    names = (*(field.name for field in fields(ModelArgs)), *own)
    return SampleArgs(jobs=args.out / "prompts.json", **{name: getattr(args, name) for name in names})


def score_pictures(args: DreamBenchArgs, work: Work) -> dict[str, Any] | None:
    """Draws this process's share, scores when all is drawn, and returns what scores.json holds; None while
    other processes have pictures to draw.
    """
    if work.sampling is not None:
        arguments, drawn = work.sampling
        draw_missing(arguments, drawn, args.process_index, args.process_count)
        if missing := sum(not is_finished(output) for output in drawn.outputs):
            print(
                f"this process drew its share; others still draw {missing} of {len(drawn.outputs)} pictures"
            )
            return None
    encoders = load_encoders(args.encoders)
    paths = picture_paths(args, len(work.prompts))
    prompts = [prompt for prompt in work.prompts for _ in range(args.num_images)]
    rows = score_rows(encoders, prompts, paths, work.photos)
    record = {**settings_record(args, work), "scores": summarise_rows(rows, SCORES), "rows": rows}
    with atomic_write(args.out / "scores.json") as partial:
        partial.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return record


def settings_record(args: DreamBenchArgs, work: Work) -> dict[str, Any]:
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
