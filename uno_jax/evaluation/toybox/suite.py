"""The suite "toybox": a model draws held-out subjects of the toy world, and its pictures are scored.

Out: scores.json, index.html, sheet.png and the pictures. Beside the model's scores are those of the base
model without references, from the same prompts and seeds, unless `--no-baseline` is given, and of the real
composites (docs/evaluation.md).
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from uno_jax.evaluation.toybox.cases import (
    KINDS,
    USUAL,
    Cases,
    Kind,
    check_cases_memory,
    check_kinds,
    make_cases,
)
from uno_jax.evaluation.toybox.draw import case_requests, draw_cases
from uno_jax.evaluation.toybox.page import (
    Drawn,
    case_rows,
    write_page,
    write_pictures,
    write_scores,
    write_sheet,
)
from uno_jax.evaluation.toybox.scorer import NAME, Pictures, check_scorer, load_scorer
from uno_jax.evaluation.toybox.scores import check_subjects, judge_pictures, make_judge, summarise_verdicts
from uno_jax.families.registry import family_of
from uno_jax.sampling.request import check_memory, check_request
from uno_jax.sampling.results import common_record
from uno_jax.sampling.settings import Drawing, ModelArgs, choose_model
from uno_jax.support.atomic import check_output_folder
from uno_jax.support.bounds import Bounds, RefSide, Seed
from uno_jax.support.command_line import exit_on
from uno_jax.support.compile_cache import use_compile_cache
from uno_jax.support.errors import CheckpointError
from uno_jax.support.folder_lock import locked
from uno_jax.support.left_overs import is_passing
from uno_jax.toybox import Subject, load_subjects
from uno_jax.weights.load import default_dtype, held_bytes, load_model, read_model_config
from uno_jax.weights.names import find_model

UNFINISHED = ("pictures", "index.html", "sheet.png")


@dataclass(frozen=True, kw_only=True)
class ToyboxArgs(ModelArgs):
    """Score a model on prompts with subjects that it has never seen."""

    out: Path = Path("out/evaluation")
    """Directory for scores.json, index.html, sheet.png and pictures/; it must not exist, or be empty, or hold
    only what an interrupted evaluation left.
    """
    scorer: Path = Path("weights/scorer")
    """Directory that `uno-convert efficientnet --dst DIR` wrote."""
    subjects: Path | None = None
    """Folder with a manifest.json, whose split val is drawn in place of the shipped subjects."""
    count: Annotated[int, Bounds(1, 100_000)] = 60
    """Number of prompts of each kind."""
    kinds: tuple[Kind, ...] = USUAL
    """Prompts with one subject to four, and with one that is on the left or on the right ("placed")."""
    baseline: bool = True
    """Draw and score the base model without references too, a third of the work."""
    ref_size: RefSide | None = None
    """Longest side of references in pixels; default the model's, for the small one 128."""
    seed: Seed = 0
    """Seed of the prompts, the candidates and the pictures' noise."""


class Work(NamedTuple):
    """What a command line asks for, after all checks."""

    drawing: Drawing
    subjects: list[Subject]


def evaluate_toybox(args: ToyboxArgs) -> None:
    """The command line behind the suite toybox."""
    use_compile_cache()
    with contextlib.ExitStack() as held:
        with exit_on(ValueError, OSError):
            check_output_folder("--out", args.out)
            held.enter_context(locked(args.out))
            work = prepare_work(args)
        with exit_on(CheckpointError, FloatingPointError, OSError):
            record = score_model(args, work)
            for kind, scores in record[NAME].items():
                for source, own in scores.items():
                    shown = ", ".join(f"{NAME}_{name} {value:.3g}" for name, value in own.items())
                    print(f"{kind}, {source}: {shown}")
            print(f"wrote {args.out / 'index.html'}")


def prepare_work(args: ToyboxArgs) -> Work:
    """Checks everything before weights are loaded.

    Raises ValueError or OSError saying what to change.
    """
    if args.out.exists() and not only_left_over(args.out):
        raise FileExistsError(f"--out {args.out} is not empty: name a new directory")
    check_kinds(args.kinds)
    subjects = load_subjects(args.subjects, "val")
    check_subjects(subjects, args.kinds)
    check_scorer(args.scorer)
    config = read_model_config(args.model)
    side = config.defaults.resolution
    check_request(config, side, side, args.seed, args.count)
    drawing = choose_model(args)
    check_cases_memory(side, args.count, args.kinds)
    most = max(KINDS[kind] for kind in args.kinds)
    ref = family_of(config).sampler.reference_side(config, most, args.ref_size)
    dtype, sizes = args.dtype or default_dtype(), [(side, side), *[(ref, ref)] * most]
    weights = held_bytes(find_model(args.model), family_of(config).networks, dtype, args.base)
    check_memory(config, weights, sizes, min(args.batch_size, args.count), dtype)
    args.out.mkdir(parents=True, exist_ok=True)
    return Work(drawing, subjects)


def only_left_over(folder: Path) -> bool:
    """Whether a folder holds only what an evaluation writes before scores.json, its last file."""
    return all(path.name in UNFINISHED or is_passing(path.name) for path in folder.iterdir())


def score_model(args: ToyboxArgs, work: Work) -> dict[str, Any]:
    """Draws, scores and writes everything; returns what scores.json holds."""
    side = work.drawing.config.defaults.resolution
    cases = make_cases(work.subjects, args.count, side, args.seed, args.kinds)
    pictures = draw_all(args, work, cases)
    judge = make_judge(load_scorer(args.scorer), work.subjects, side, args.seed)
    drawn = {}
    for kind, each in cases.items():
        made = pictures[kind]
        verdicts = {
            source: judge_pictures(judge, each, made[source], kind, f"{kind}, {source}") for source in made
        }
        drawn[kind] = Drawn(each, made, verdicts)
        write_pictures(args.out, kind, drawn[kind])
    record: dict[str, Any] = settings_record(args, work)
    record[NAME] = {
        kind: {source: summarise_verdicts(verdicts) for source, verdicts in each.verdicts.items()}
        for kind, each in drawn.items()
    }
    write_page(args.out, record, drawn)
    write_sheet(args.out, drawn)
    write_scores(args.out, record | {"rows": case_rows(drawn)})
    return record


def draw_all(args: ToyboxArgs, work: Work, cases: Cases) -> dict[str, dict[str, Pictures]]:
    """Pictures by kind of case and source; one model at a time is in memory."""
    pictures: dict[str, dict[str, Pictures]] = {kind: {} for kind in cases}
    sources = [("model", work.drawing.lora, True), ("without_reference", None, False)]
    for source, lora, references in sources if args.baseline else sources[:1]:
        model = load_model(args.model, lora, args.dtype, args.base, work.drawing.mesh)
        for kind, each in cases.items():
            requests = case_requests(model.config, each, args.seed, references, args.ref_size)
            pictures[kind][source] = draw_cases(model, requests, work.drawing.settings, args.batch_size)
        del model
    for kind, each in cases.items():
        pictures[kind]["real"] = [case.target for case in each]
    return pictures


def settings_record(args: ToyboxArgs, work: Work) -> dict[str, Any]:
    """The settings, as scores.json has them."""
    drawing = work.drawing
    side = drawing.config.defaults.resolution
    settings = drawing.settings.record(side, side)
    return {
        "suite": "toybox",
        **common_record(args.model, args.lora, args.dtype or default_dtype(), args.base),
        "subjects": None if args.subjects is None else str(args.subjects),
        "kinds": list(args.kinds),
        "count": args.count,
        "resolution": side,
        "ref_size": args.ref_size,
        **{name: value for name, value in settings.items() if name != "schedule"},
        "seed": args.seed,
    }
