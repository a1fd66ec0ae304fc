"""How well filter-dino tells copied backgrounds: the borders' cosine of toy pairs of which it is known.

    python -m benchmarks.copied_background            # --count N pairs a kind, 128 pixels

A pair shows one held-out subject twice, placed anew. Of half of the copies the second picture has the first
one's very background, of the others the same scene drawn anew; the rest are other scenes. Second pictures
are seen sharp and blurred, as a small model's are. Precision counts as many copies as others.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.judge import Maps, auc, make_maps
from benchmarks.measure import table
from tools.synthesize_data.judges.features import RESOLUTION, EfficientNetLite0, border_of
from tools.synthesize_data.presets.small import get_config
from tools.synthesize_data.stages.filter_dino import (
    SOFTER,
    background_cosines,
    copied_background,
    soften,
)
from uno_jax.toybox import Subject, load_subjects
from uno_jax.toybox.compose import compose
from uno_jax.toybox.samples import SCENE_NAMES

SIZE = 128
SOFTNESS = (0, 1, 2)
LIMITS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.8)
Pictures = list[NDArray[np.uint8]]


def draw_pairs(count: int, seed: int) -> dict[str, Pictures]:
    """First pictures, and second ones by what is known of them."""
    subjects: Sequence[Subject] = load_subjects(split="val")
    drawn: dict[str, Pictures] = {"first": [], "pasted": [], "drawn anew": [], "other scene": []}
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        subject = subjects[number % len(subjects)]
        scene, other = (SCENE_NAMES[at] for at in rng.choice(len(SCENE_NAMES), 2, replace=False))
        seeds = rng.integers(2**31, size=3)
        moved = compose(np.random.default_rng(seeds[1]), [subject], scene, SIZE)
        drawn["first"].append(compose(np.random.default_rng(seeds[0]), [subject], scene, SIZE).image)
        same = compose(np.random.default_rng(seeds[0]), [subject], scene, SIZE, moved.placements)
        drawn["pasted"].append(same.image)
        drawn["drawn anew"].append(moved.image)
        drawn["other scene"].append(compose(np.random.default_rng(seeds[2]), [subject], other, SIZE).image)
    return drawn


def border_cosines(network: EfficientNetLite0, count: int, seed: int) -> dict[tuple[str, int], Maps]:
    """By what is known of the second pictures and how soft they are seen, the cosines that filter-dino
    records.
    """

    def borders(pictures: Pictures, softness: int) -> Maps:
        images = [soften(Image.fromarray(each), softness) for each in pictures]
        return border_of(make_maps(network, [np.asarray(each) for each in images], RESOLUTION))

    drawn = draw_pairs(count, seed)
    pictures = drawn.pop("first")
    firsts = [borders(pictures, softness) for softness in (0, *SOFTER)]
    return {
        (kind, softness): background_cosines(firsts, borders(pictures, softness))
        for kind, pictures in drawn.items()
        for softness in SOFTNESS
    }


def rejected(cosines: Maps, limit: float) -> NDArray[np.bool_]:
    """The filter's own verdicts."""
    return np.array([bool(copied_background(limit, {"background": float(each)})) for each in cosines])


def rows(found: dict[tuple[str, int], Maps]) -> list[tuple[object, ...]]:
    """Of every limit: recall by kind and softness of the second picture, false rejections, precision."""
    lines = []
    for limit in LIMITS:
        shares = {case: rejected(cosines, limit).mean() for case, cosines in found.items()}
        recall = np.mean([share for (kind, _), share in shares.items() if kind != "other scene"])
        wrong = np.mean([share for (kind, _), share in shares.items() if kind == "other scene"])
        by_case = (f"{share:.0%}" for share in shares.values())
        precision = recall / (recall + wrong) if recall + wrong else float("nan")
        lines.append((f"{limit:g}", *by_case, f"{recall:.1%}", f"{wrong:.1%}", f"{precision:.1%}"))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.copied_background")
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--seed", type=int, default=51)
    args = parser.parse_args()
    found = border_cosines(EfficientNetLite0("cpu"), args.count, args.seed)
    heads = [f"{kind}, blur {softness}" for kind, softness in found]
    print(table(("rejected above", *heads, "recall", "other scenes rejected", "precision"), rows(found)))
    copies = np.concatenate([each for (kind, _), each in found.items() if kind != "other scene"])
    others = np.concatenate([each for (kind, _), each in found.items() if kind == "other scene"])
    print(
        f"AUC {auc(copies, others):.3f}; the preset small rejects above {get_config().filter_dino.max_border}"
    )


if __name__ == "__main__":
    main()
