"""The suite "list": the entries of OmniContext, XVerseBench or a list in UNO's form -> pictures -> scores.

The list is drawn as `drawn_list` says; OUT/scores.json holds every setting, a row for each picture with its
entry's kind and key, and with encoders means by kind. `uno-judge` judges what was drawn.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from uno_jax.evaluation.drawn_list import (
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
from uno_jax.evaluation.dreambench.prompts import Prompt
from uno_jax.evaluation.dreambench.rows import load_encoders, score_rows
from uno_jax.evaluation.encoders import check_encoder
from uno_jax.evaluation.lists.read import Entry, read_list
from uno_jax.evaluation.lists.scores import summarise_kinds
from uno_jax.support import images
from uno_jax.support.command_line import exit_on
from uno_jax.support.compile_cache import use_compile_cache
from uno_jax.support.errors import CheckpointError, RecipeError
from uno_jax.support.folder_lock import locked
from uno_jax.support.words import counted
from uno_jax.weights.identity import weights_id

SUITE = "list"
SCORES = ("dino", "clip_i", "clip_t", "dino_worst", "clip_i_worst")
REFERENCES = "references"  # folder of pictures that the list's own file holds


@dataclass(frozen=True, kw_only=True)
class ListArgs(DrawnListArgs):
    """Draw the entries of a list: OmniContext's rows, XVerseBench's lists, or a list in UNO's form, told by
    their fields. With --encoders they are scored; `uno-judge --form context` judges them.
    """

    lists: Path
    """The list: JSON, JSON Lines, a Parquet file with pictures in it, or a folder of such files."""
    data: Path | None = None
    """Folder that the list's paths are relative to; default: the list's. For XVerseBench its repository."""
    out: Path = Path("out/list")
    """Directory for prompts.json, the pictures and scores.json. The same command again continues."""
    encoders: Path | None = None
    """Directory with dino/ and clip/, as for DreamBench, to score pictures by their cosines with the
    references and the prompt; by default they are drawn only.
    """


class Work(NamedTuple):
    """What a command line asks for, after all checks; `sampling` is None when nothing is to be drawn."""

    entries: list[Entry]
    sampling: Sampling | None


def evaluate_list(args: ListArgs) -> None:
    """The command line behind the suite list."""
    use_compile_cache()
    with contextlib.ExitStack() as held:
        with exit_on(ValueError, OSError):
            check_args(args)
            held.enter_context(locked(args.out, sharing_of(args)))
            work = prepare_work(args)
        with exit_on(CheckpointError, RecipeError, images.ImageError, FloatingPointError, OSError):
            if draw_share(args, work.sampling):
                record = record_pictures(args, work)
                write_scores(args.out, record)
                print("\n".join(table_lines(record)))
                print(f"wrote {args.out / 'scores.json'}; uno-judge --form context judges the pictures")


def check_args(args: ListArgs) -> None:
    """Raises ValueError or OSError saying what to change."""
    if args.data is not None and not args.data.is_dir():
        raise FileNotFoundError(f"no folder {args.data}: --data is what the list's paths are relative to")
    check_drawing(args)


def prepare_work(args: ListArgs) -> Work:
    """Checks everything before weights are loaded.

    Raises ValueError or OSError saying what to change.
    """
    if args.encoders is not None:
        for name in ("dino", "clip"):
            check_encoder(args.encoders / name)
    entries = read_list(args.lists, args.data, args.out / REFERENCES)
    return Work(entries, prepare_drawing(args, [entry.listed() for entry in entries]))


def record_pictures(args: ListArgs, work: Work) -> dict[str, Any]:
    """What scores.json holds: every setting that a score depends on, the scores, and a row a picture."""
    paths = picture_paths(args, len(work.entries))
    entries = [entry for entry in work.entries for _ in range(args.num_images)]
    rows = [row_of(entry, path) for entry, path in zip(entries, paths, strict=True)]
    if args.encoders is not None:
        rows = [row | own for row, own in zip(rows, cosines(args.encoders, entries, paths), strict=True)]
    return {
        "suite": SUITE,
        "prompts": len(work.entries),
        "lists": str(args.lists),
        "num_images": args.num_images,
        "encoders": args.encoders and {name: weights_id(args.encoders / name) for name in ("dino", "clip")},
        "versions": versions(),
        **settings_of_drawing(args, work.sampling, paths),
        "scores": summarise_kinds(rows, SCORES),
        "rows": rows,
    }


def row_of(entry: Entry, path: Path) -> dict[str, Any]:
    asked = {"prompt": entry.prompt, "subjects": list(entry.subjects)}
    return {"picture": path.name, **asked, "category": entry.category, "key": entry.key}


def cosines(encoders: Path, entries: Sequence[Entry], paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Each picture's scores as DreamBench's, where a subject's only photo is its reference."""
    prompts = [
        Prompt(entry.prompt, entry.references, tuple(map(str, entry.references)), entry.category)
        for entry in entries
    ]
    photos = {str(path): [path] for entry in entries for path in entry.references}
    rows = score_rows(load_encoders(encoders), prompts, paths, photos)
    return [{name: row[name] for name in SCORES if name in row} for row in rows]


def table_lines(record: dict[str, Any]) -> list[str]:
    """A line for each kind and one for their mean, with the scores that there are."""
    kinds: dict[str, int] = {}
    for row in record["rows"]:
        kinds[row["category"]] = kinds.get(row["category"], 0) + 1
    lines = [f"{counted(len(record['rows']), 'picture')} at {record['resolution']}"]
    for kind, count in kinds.items():
        own = (
            f"{name} {score['categories'][kind]:.4f}"
            for name, score in record["scores"].items()
            if kind in score["categories"]
        )
        lines.append("  ".join([f"{kind} ({count})", *own]))
    if record["scores"]:
        means = (f"{name} {score['mean']:.4f}" for name, score in record["scores"].items())
        lines.append("  ".join(["mean of kinds", *means]))
    return lines
