"""How well the small run's substitutes for large models work: the judge of pairs, the search for subjects.

    python -m benchmarks.judge          # tables, on subjects of the val split; --count N drawn pictures a row
    python -m benchmarks.judge --fit    # the judge's slope and constant, on subjects of the train split

Pairs are the toybox's, 128 pixels: two pictures of a subject, in different scenes, against pictures of two
subjects. For the search every picture shows two subjects; it looks for each, and for one that is absent.
Targets and searched pictures are seen sharp and blurred, as a small model's pictures are.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from benchmarks.measure import table
from tools.common.manifest import Failed
from tools.synthesize_data.config import DetectConfig
from tools.synthesize_data.judges.catalog_detector import SIDE as CATALOG_SIDE
from tools.synthesize_data.judges.catalog_detector import Catalog
from tools.synthesize_data.judges.feature_judge import SIDE, part_cosines, part_score
from tools.synthesize_data.judges.features import EfficientNetLite0, normalize
from uno_jax.evaluation.toybox.scenes import SOFTNESS, soften
from uno_jax.toybox import Subject, load_subjects
from uno_jax.toybox.captions import choose
from uno_jax.toybox.compose import compose
from uno_jax.toybox.samples import SCENE_NAMES, pair

SIZE, BATCH = 128, 16
CASES = [(shown, softness) for shown in (1, 2) for softness in SOFTNESS]
Maps = NDArray[np.float32]


def make_maps(network: EfficientNetLite0, images: Sequence[NDArray[np.uint8]], side: int) -> Maps:
    starts = tqdm(range(0, len(images), BATCH), "features", leave=False)
    batches = [[Image.fromarray(image) for image in images[start : start + BATCH]] for start in starts]
    return np.concatenate([network.maps(batch, side) for batch in batches])


def draw_pairs(
    network: EfficientNetLite0, split: str, shown: int, softness: float, count: int, seed: int
) -> tuple[Maps, ...]:
    """Maps of references, of soft targets with that subject (and one more, when two are shown), of others."""
    subjects = load_subjects(split=split)
    samples = [pair(np.random.default_rng([seed, n]), subjects, SIZE, shown) for n in range(count)]
    references = make_maps(network, [sample.references[0] for sample in samples], SIDE)
    targets = make_maps(network, [soften(sample.target, softness) for sample in samples], SIDE)
    rng, others = np.random.default_rng([seed, count]), []
    for sample in samples:
        fitting = [n for n, other in enumerate(samples) if not {*other.subjects} & {*sample.subjects}]
        others.append(targets[rng.choice(fitting)])
    return references, targets, np.stack(others)


def auc(right: NDArray[np.float64], wrong: NDArray[np.float64]) -> float:
    """How often a right pair scores above a wrong one; ties count half."""
    gap = right[:, None] - wrong[None]
    return float((gap > 0).mean() + (gap == 0).mean() / 2)


def judged(references: Maps, targets: Maps) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(mean scores, mean cosines of the parts) of pairs."""
    parts = [list(part_cosines(*both).values()) for both in zip(references, targets, strict=True)]
    scores = [np.mean([part_score(cosine) for cosine in cosines]) for cosines in parts]
    return np.array(scores), np.array([np.mean(cosines) for cosines in parts])


def judge_rows(count: int, seed: int = 31) -> list[tuple[object, ...]]:
    network, rows = EfficientNetLite0("cpu"), []
    for shown, softness in CASES:
        references, same, other = draw_pairs(network, "val", shown, softness, count, seed + shown)
        (right, right_cosine), (wrong, wrong_cosine) = judged(references, same), judged(references, other)
        whole = [
            (normalize(references.mean((1, 2))) * normalize(each.mean((1, 2)))).sum(1)
            for each in (same, other)
        ]
        kept = [f"{(right >= least).mean():.0%} / {(wrong >= least).mean():.0%}" for least in (2, 3, 4)]
        numbers = (auc(right, wrong), auc(right_cosine, wrong_cosine), auc(*whole))
        rows.append((f"{shown} shown, blur {softness}", *(f"{number:.3f}" for number in numbers), *kept))
    return rows


def fit(count: int, seed: int = 21, ridge: float = 1e-3) -> NDArray[np.float64]:
    """Logistic regression by Newton's method on the parts of as many same pairs as others."""
    network, x, y = EfficientNetLite0("cpu"), [], []
    for shown, softness in CASES:
        references, same, other = draw_pairs(network, "train", shown, softness, count, seed + shown)
        for truth, targets in ((1, same), (0, other)):
            for both in zip(references, targets, strict=True):
                cosines = part_cosines(*both).values()
                x += [(cosine, 1) for cosine in cosines]
                y += [truth] * len(cosines)
    inputs, truths, weights = np.array(x), np.array(y), np.zeros(2)
    for _ in range(100):
        p = 1 / (1 + np.exp(-inputs @ weights))
        curve = (inputs * (p * (1 - p))[:, None]).T @ inputs + ridge * np.eye(2)
        weights -= np.linalg.solve(curve, inputs.T @ (p - truths) + ridge * weights)
    return weights


def overlap(one: Sequence[float], two: Sequence[float]) -> float:
    """Intersection over union."""
    across, down = (min(one[at + 2], two[at + 2]) - max(one[at], two[at]) for at in (0, 1))
    shared = max(0.0, across) * max(0.0, down)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, two))
    return shared / (areas - shared)


def draw_two(rng: np.random.Generator, subjects: Sequence[Subject]) -> tuple[NDArray[np.uint8], list[tuple]]:
    """A picture and a box of each subject, from their placements: a cut-out, tilted by a few degrees."""
    composite = compose(rng, subjects, choose(rng, SCENE_NAMES), SIZE)
    boxes = []
    for subject, place in zip(subjects, composite.placements, strict=True):
        width, height = (place.extent * SIZE * side / max(subject.size) for side in subject.size)
        turn = np.deg2rad(abs(place.degrees))
        across, down = (a * np.cos(turn) + b * np.sin(turn) for a, b in ((width, height), (height, width)))
        middle, feet = place.x * SIZE, place.feet * SIZE
        boxes.append((middle - across / 2, feet - down, middle + across / 2, feet))
    return composite.image, boxes


def catalog_rows(count: int, seed: int = 41) -> list[tuple[object, ...]]:
    catalog, rows = Catalog(DetectConfig(catalog="toybox"), "auto"), []
    found = {f"blur {softness}": searched(catalog, softness, count, seed) for softness in SOFTNESS}
    found["all"] = tuple(map(np.concatenate, zip(*found.values(), strict=True)))
    for name, (right, wrong, shares) in found.items():
        limits = np.linspace(0.2, 0.8, 61)
        limit = limits[np.argmax([(right >= each).mean() - (wrong >= each).mean() for each in limits])]
        kept = f"{(right >= limit).mean():.0%} / {(wrong >= limit).mean():.0%}"
        numbers = (f"{(shares >= 0.5).mean():.1%}", f"{shares.mean():.2f}", f"{auc(right, wrong):.3f}")
        rows.append((name, *numbers, f"{limit:.2f}", kept))
    return rows


def searched(catalog: Catalog, softness: float, count: int, seed: int) -> tuple[NDArray[np.float64], ...]:
    """Scores of subjects that are shown, scores of others, and the overlaps of the former's boxes."""
    subjects = load_subjects(split="val")
    overlaps, there, absent = [], [], []
    for number in tqdm(range(count), "search", leave=False):
        rng = np.random.default_rng([seed, number])
        shown = [subjects[at] for at in rng.choice(len(subjects), 3, replace=False)]
        pixels, boxes = draw_two(rng, shown[:2])
        image = Image.fromarray(soften(pixels, softness))
        cells = catalog.network.maps([image], CATALOG_SIDE)[0]
        results = [catalog.find(cells, image, subject.name) for subject in shown]
        for index, found in enumerate(results):
            if isinstance(found, Failed) or found.box is None:
                raise SystemExit(f"{shown[index].name}: {found}")
            (there if index < 2 else absent).append(found.score)
            if index < 2:
                overlaps.append(overlap(found.box, boxes[index]))
    return np.array(there), np.array(absent), np.array(overlaps)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judge")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--count", type=int, default=200)
    args = parser.parse_args()
    if args.fit:
        print("slope and constant:", fit(args.count).round(2))
        return
    head = ("pairs", "AUC", "of the cosines", "of whole pictures", "kept same / other from 2", "3", "4")
    print(table(head, judge_rows(args.count)))
    head = ("subjects looked for", "IoU >= 0.5", "mean IoU", "AUC there / absent", "best limit", "kept at it")
    print(table(head, catalog_rows(args.count)))


if __name__ == "__main__":
    main()
