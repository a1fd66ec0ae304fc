"""What the scorer makes of the device's pictures, beside the drawn composer's: the same held-out subjects in
the same scenes.

    python -m uno_jax.toybox.device && uno-convert efficientnet --dst weights/scorer
    python -m benchmarks.toy_world_scores --count 240

Scenes are learned from drawn composites, as in any evaluation (docs/evaluation.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import table
from uno_jax.evaluation.toybox.cases import make_cases
from uno_jax.evaluation.toybox.scorer import load_scorer
from uno_jax.evaluation.toybox.scores import Verdicts, judge_pictures, make_judge, summarise_verdicts
from uno_jax.support.command_line import parse_args
from uno_jax.toybox import Sample, load_subjects
from uno_jax.toybox.device import TextImages, World, load_bank, make_pictures, make_world, prompts
from uno_jax.toybox.samples import SCENE_NAMES

BATCH = 60


@dataclass(frozen=True)
class Args:
    """Score pictures of both composers."""

    bank: Path = Path("data/backgrounds.npz")
    scorer: Path = Path("weights/scorer")
    size: int = 128
    count: int = 240
    """Pictures of each kind, of each composer."""
    kinds: tuple[Literal["single", "two"], ...] = ("single", "two")
    """With one subject, and with two."""
    seed: int = 0


def main() -> None:
    args = parse_args(Args, "python -m benchmarks.toy_world_scores", None)
    rows = [
        (kind, source, *(f"{value:.3f}" for value in scores.values()))
        for kind, sources in score(args).items()
        for source, scores in sources.items()
    ]
    print(table(("subjects", "pictures", *HEAD), rows))


HEAD = ("top1", "cosine", "scene_accuracy", "swaps")


def score(args: Args) -> dict[str, dict[str, dict[str, float]]]:
    """By kind of case and composer, and how much better (+) the device's are, with its standard error."""
    subjects = load_subjects(split="val")
    world = make_world(load_bank(args.bank), subjects, args.size)
    judge = make_judge(load_scorer(args.scorer), subjects, args.size, args.seed)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for kind, drawn in make_cases(subjects, args.count, args.size, args.seed, args.kinds).items():
        made = on_device(world, drawn, args.seed)
        verdicts = [
            judge_pictures(judge, each, [case.target for case in each], kind) for each in (drawn, made)
        ]
        both = [summarise_verdicts(each) for each in verdicts]
        rows = [{name: scores.get(name, np.nan) for name in HEAD} for scores in both]
        found[kind] = {"drawn": rows[0], "device": rows[1], **difference(*verdicts)}
    return found


def on_device(world: World, cases: Sequence[Sample], seed: int) -> list[Sample]:
    """The cases' subjects and scenes, placed, lit and captioned anew."""
    samples: list[Sample] = []
    for start in range(0, len(cases), BATCH):
        some = cases[start : start + BATCH]
        subjects = jnp.array([[world.atlas.names.index(name) for name in case.subjects] for case in some])
        scenes = jnp.array([SCENE_NAMES.index(case.scenes[0]) for case in some])
        two = jnp.full(len(some), subjects.shape[1] == 2)
        key = jax.random.fold_in(jax.random.key(seed), start)
        pictures, placements = make_pictures(key, world, scenes, subjects, two)
        shown = TextImages(pictures, scenes, subjects, two, placements)
        lines = prompts(world.atlas.names, shown, seed + start)
        samples += [
            Sample(line, picture, (), case.subjects, case.scenes)
            for line, picture, case in zip(lines, np.asarray(pictures), some, strict=True)
        ]
    return samples


def difference(drawn: Verdicts, device: Verdicts) -> dict[str, dict[str, float]]:
    """The device's scores less the drawn ones for the same cases, and the standard error of that mean."""
    rows: dict[str, dict[str, float]] = {"difference": {}, "its standard error": {}}
    for name, one, other in (
        ("top1", drawn.top1, device.top1),
        ("cosine", drawn.cosine, device.cosine),
        ("scene_accuracy", drawn.scene_right, device.scene_right),
    ):
        less = np.asarray(other, float) - np.asarray(one, float)
        rows["difference"][name] = float(less.mean())
        rows["its standard error"][name] = float(less.std(ddof=1) / np.sqrt(len(less)))
    return {name: row | {"swaps": float("nan")} for name, row in rows.items()}


if __name__ == "__main__":
    main()
