"""The ceilings: the scores that real composites get, without any model.

`uno-ceilings --scorer weights/scorer --size 128 --count 240` prints them as JSON.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from uno_jax.evaluation.toybox.cases import USUAL, Kind, check_cases_memory, check_kinds, make_cases
from uno_jax.evaluation.toybox.scorer import NAME, check_scorer, load_scorer
from uno_jax.evaluation.toybox.scores import check_subjects, judge_pictures, make_judge, summarise_verdicts
from uno_jax.support.bounds import Bounds, Seed
from uno_jax.support.command_line import exit_on, parse_args
from uno_jax.toybox import Subject, load_subjects
from uno_jax.toybox.compose import LARGEST, SMALLEST


@dataclass(frozen=True)
class Args:
    """Score real composites of held-out subjects: the most that a model can reach."""

    scorer: Path = Path("weights/scorer")
    """Directory that `uno-convert efficientnet --dst DIR` wrote."""
    size: Annotated[int, Bounds(SMALLEST, LARGEST)] = 128
    """Side of a picture in pixels: the model's resolution."""
    count: Annotated[int, Bounds(1, 100_000)] = 240
    """Number of pictures of each kind."""
    kinds: tuple[Kind, ...] = USUAL
    """Pictures with one subject to four, and with one whose prompt names a side ("placed")."""
    mirrored: bool = False
    """Score the pictures mirrored: what the prompt puts on the left stands on the right then."""
    seed: Seed = 0
    """Seed of the pictures and the candidates."""
    subjects: Path | None = None
    """Folder with a manifest.json, whose split val takes the place of the shipped subjects."""


def main(argv: Sequence[str] | None = None) -> None:
    """The command `uno ceilings`."""
    args = parse_args(Args, "uno-ceilings", argv)
    with exit_on(ValueError, OSError):
        check_kinds(args.kinds)
        check_scorer(args.scorer)
        subjects = load_subjects(args.subjects, "val")
        check_subjects(subjects, args.kinds)
        check_cases_memory(args.size, args.count, args.kinds)
        print(json.dumps({NAME: ceilings(args, subjects)}, indent=1))


def ceilings(args: Args, subjects: Sequence[Subject]) -> dict[str, Any]:
    """The scores of the cases' own composites."""
    cases = make_cases(subjects, args.count, args.size, args.seed, args.kinds)
    judge = make_judge(load_scorer(args.scorer), subjects, args.size, args.seed)
    step = -1 if args.mirrored else 1
    return {
        kind: summarise_verdicts(judge_pictures(judge, each, [case.target[:, ::step] for case in each], kind))
        for kind, each in cases.items()
    }
