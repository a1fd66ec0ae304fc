"""The suite "toybox": a model draws held-out subjects of the toy world, and its pictures are scored.

Out: scores.json, index.html, sheet.png and the pictures. Beside the model's scores are those of the base
model without references, from the same prompts and seeds, and of the real composites (docs/evaluation.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from uno_jax.evaluation.toybox.cases import Cases, make_cases
from uno_jax.evaluation.toybox.draw import draw
from uno_jax.evaluation.toybox.page import (
    SOURCES,
    Drawn,
    case_rows,
    write_page,
    write_pictures,
    write_scores,
    write_sheet,
)
from uno_jax.evaluation.toybox.scorer import NAME, Pictures, check_scorer, load_scorer
from uno_jax.evaluation.toybox.scores import check_subjects, judge_pictures, make_judge, summary
from uno_jax.networks.config import ModelConfig
from uno_jax.sampling.job_list import common_record
from uno_jax.sampling.request import Settings, check_request, choose_unope, make_settings
from uno_jax.sampling.run import Drawing
from uno_jax.support.command_line import errors_told, parse_args
from uno_jax.support.compile_cache import use_compile_cache
from uno_jax.toybox import Subject, load_subjects
from uno_jax.weights.checkpoint import CheckpointError
from uno_jax.weights.load import Lora, default_dtype, load_model, read_model_config, read_named_lora
from uno_jax.weights.names import find_model

UNFINISHED = ("pictures", "index.html", "sheet.png")


@dataclass(frozen=True, kw_only=True)
class Args(Drawing):
    """Score a model on prompts with one and two subjects that it has never seen."""

    suite: Literal["toybox"] = "toybox"
    """What is drawn."""
    out: Path = Path("out/evaluation")
    """Directory for scores.json, index.html, sheet.png and pictures/; must be empty, not there, or what an
    interrupted evaluation left.
    """
    scorer: Path = Path("weights/scorer")
    """Directory that `python -m tools.convert_weights efficientnet --dst DIR` wrote."""
    subjects: Path | None = None
    """Folder with a manifest.json, whose split val is drawn, in place of the shipped subjects."""
    count: int = 60
    """Prompts with one subject, and as many with two."""
    seed: int = 0
    """Of the prompts, the candidates and the pictures' noise."""


class Work(NamedTuple):
    """What a command line asks for, checked."""

    config: ModelConfig
    settings: Settings
    lora: Lora | None
    subjects: list[Subject]


def evaluate(argv: Sequence[str] | None) -> None:
    """The command line behind --suite toybox."""
    args = parse_args(Args, "python -m uno_jax.evaluate", argv)
    use_compile_cache()
    with errors_told(ValueError, OSError):
        work = prepare(args)
    with errors_told(CheckpointError, FloatingPointError, OSError):
        record = run(args, work)
    for kind, scores in record[NAME].items():
        for source in SOURCES:
            shown = ", ".join(f"{NAME}_{name} {value:.3g}" for name, value in scores[source].items())
            print(f"{kind}, {source}: {shown}")
    print(f"wrote {args.out / 'index.html'}")


def prepare(args: Args) -> Work:
    """Checks everything before weights are loaded. Raises ValueError or OSError saying what to change."""
    for name, value in (("--count", args.count), ("--batch-size", args.batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if args.out.exists() and (not args.out.is_dir() or not only_left_over(args.out)):
        raise FileExistsError(f"--out {args.out} is a file or not empty: name a new directory")
    subjects = load_subjects(args.subjects, "val")
    check_subjects(subjects)
    check_scorer(args.scorer)
    config = read_model_config(args.model)
    side = config.mmdit.resolution
    check_request(config, side, side, args.seed, args.count)
    settings = make_settings(config.mmdit, args.steps, args.guidance, true_cfg=args.true_cfg)
    lora = read_named_lora(args.lora, find_model(args.model), config.mmdit)
    unope = choose_unope(args.unope, args.offset_scale, lora.unope if lora else None)
    args.out.mkdir(parents=True, exist_ok=True)
    return Work(config, replace(settings, unope=unope), lora, subjects)


def only_left_over(folder: Path) -> bool:
    """Whether nothing is in it but what an evaluation writes before scores.json, its last file."""
    return all(path.name in UNFINISHED or path.suffix == ".partial" for path in folder.iterdir())


def run(args: Args, work: Work) -> dict[str, Any]:
    """Draws, scores and writes everything; returns what scores.json holds."""
    side = work.config.mmdit.resolution
    cases = make_cases(work.subjects, args.count, side, args.seed)
    pictures = draw_all(args, work, cases)
    judge = make_judge(load_scorer(args.scorer), work.subjects, side, args.seed)
    drawn = {}
    for kind, each in cases._asdict().items():
        made = pictures[kind]
        verdicts = {source: judge_pictures(judge, each, made[source], f"{kind}, {source}") for source in made}
        drawn[kind] = Drawn(each, made, verdicts)
        write_pictures(args.out, kind, drawn[kind])
    record: dict[str, Any] = settings_record(args, work)
    record[NAME] = {
        kind: {source: summary(verdicts) for source, verdicts in each.verdicts.items()}
        for kind, each in drawn.items()
    }
    write_page(args.out, record, drawn)
    write_sheet(args.out, drawn)
    write_scores(args.out, record | {"rows": case_rows(drawn)})
    return record


def draw_all(args: Args, work: Work, cases: Cases) -> dict[str, dict[str, Pictures]]:
    """By kind of case and source: one model is held at a time."""
    pictures: dict[str, dict[str, Pictures]] = {kind: {} for kind in cases._fields}
    for source, lora, references in (("model", work.lora, True), ("without_reference", None, False)):
        model = load_model(args.model, lora, args.dtype)
        for kind, each in cases._asdict().items():
            made = draw(model, each, work.settings, args.seed, args.batch_size, references)
            pictures[kind][source] = made
        del model
    for kind, each in cases._asdict().items():
        pictures[kind]["real"] = [case.target for case in each]
    return pictures


def settings_record(args: Args, work: Work) -> dict[str, Any]:
    """The settings, as scores.json has them."""
    settings = work.settings
    return {
        "suite": args.suite,
        **common_record(args.model, args.lora, args.dtype or default_dtype()),
        "subjects": None if args.subjects is None else str(args.subjects),
        "resolution": work.config.mmdit.resolution,
        "steps": settings.steps,
        "guidance": settings.guidance,
        "true_cfg": settings.true_cfg,
        "unope": settings.unope.variant,
        "offset_scale": settings.unope.offset_scale,
        "seed": args.seed,
    }
