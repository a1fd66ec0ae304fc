"""Seams found in drawn diptychs, and wrongly in single pictures: how often, and how fast.

    python -m benchmarks.seam          # a table, on subjects of the val split
    python -m benchmarks.seam --fit    # the coefficients in seam.py, on subjects of the train split

Diptychs are the toybox's, 200 to 1300 pixels wide; one panel is cropped, so that the seam moves, and a fifth
get a line between the panels. Singles are whole or cropped; half are of the scenes with vertical edges. Some
of both are resampled, some have been JPEGs of quality 50 to 95, half lie on their side.
"""

import io
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from benchmarks.measure import table
from tools.synthesize_data.judges.seam import averaged_rows, find_seam, row_scores, weakest_bands
from uno_jax.toybox import Subject, load_subjects
from uno_jax.toybox.captions import choose
from uno_jax.toybox.compose import compose
from uno_jax.toybox.samples import diptych, text_image

SEARCH = (0.35, 0.65)
UPRIGHT = (
    "rainy window",
    "wooden table",
    "brick wall",
    "bookshelf",
    "city street",
    "stage",
    "forest",
    "carpet",
)
COUNT = 500
CLOSE = 4  # pixels


class Drawn(NamedTuple):
    """`seam` is None in a single picture; where a line divides the panels, it is the line's middle."""

    pixels: NDArray[np.uint8]
    seam: float | None
    top_bottom: bool


def draw_diptych(rng: Generator, subjects: Sequence[Subject]) -> Drawn:
    size = int(rng.choice([128, 160, 192, 256, 384, 512]))
    pixels = diptych(rng, subjects, size).target
    cut = int(rng.integers(0, size * 2 // 5))
    left = rng.random() < 0.5
    pixels, seam = (pixels[:, cut:], size - cut) if left else (pixels[:, : 2 * size - cut], size)
    line = int(rng.integers(1, 7)) if rng.random() < 0.2 else 0
    if line:
        colour = np.full((size, line, 3), rng.choice([0, 128, 255]), np.uint8)
        pixels = np.concatenate([pixels[:, :seam], colour, pixels[:, seam:]], axis=1)
    return worn(rng, pixels, seam + line / 2)


def draw_single(rng: Generator, subjects: Sequence[Subject]) -> Drawn:
    size = int(rng.choice([192, 256, 384, 512, 768]))
    if rng.random() < 0.5:
        shown = [subjects[rng.integers(len(subjects))]]
        pixels = compose(rng, shown, choose(rng, UPRIGHT), size).image
    else:
        pixels = text_image(rng, subjects, size).target
    height, width = ((1, 1), (0.5, 1), (1, 0.67))[rng.integers(3)]
    top, left = (int(rng.integers(0, size - int(size * share) + 1)) for share in (height, width))
    return worn(rng, pixels[top : top + int(size * height), left : left + int(size * width)], None)


def worn(rng: Generator, pixels: NDArray[np.uint8], seam: float | None) -> Drawn:
    """A picture as it might come from a model and a disk: resampled, compressed, and perhaps turned."""
    image = Image.fromarray(pixels)
    if rng.random() < 0.3:
        scale = rng.uniform(0.8, 1.3)
        image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BICUBIC)
        seam = None if seam is None else seam * image.width / pixels.shape[1]
    top_bottom = rng.random() < 0.5
    if top_bottom:
        image = image.transpose(Image.Transpose.TRANSPOSE)
    if rng.random() < 0.6:
        image.save(file := io.BytesIO(), "JPEG", quality=int(rng.integers(50, 96)))
        image = Image.open(file).convert("RGB")
    return Drawn(np.asarray(image), seam, top_bottom)


def upright(drawn: Drawn) -> NDArray[np.uint8]:
    return drawn.pixels.transpose(1, 0, 2) if drawn.top_bottom else drawn.pixels


def draw_pictures(kind: str, split: str, seed: int, count: int) -> Iterator[Drawn]:
    subjects, make = load_subjects(split=split), {"diptych": draw_diptych, "single": draw_single}[kind]
    for index in tqdm(range(count), f"{kind} {split}", leave=False):
        yield make(np.random.default_rng([seed, index]), subjects)


def measure(count: int = COUNT, seed: int = 11) -> list[tuple[str, float]]:
    """(what, share) over `count` diptychs and as many single pictures of the val split."""
    found = [
        (find_seam(upright(drawn), SEARCH), drawn.seam)
        for drawn in draw_pictures("diptych", "val", seed, count)
    ]
    close = np.array([abs(seam.position - true) <= CLOSE for seam, true in found])
    sure = np.array([seam.probability >= 0.5 for seam, _ in found])
    singles = [find_seam(upright(drawn), SEARCH) for drawn in draw_pictures("single", "val", seed + 1, count)]
    rejected = np.array([seam.probability < 0.5 for seam in singles])
    return [
        (f"diptychs, seam within {CLOSE} pixels", close.mean()),
        ("diptychs kept", sure.mean()),
        (f"diptychs kept, seam within {CLOSE} pixels", (close & sure).mean()),
        ("single pictures rejected", rejected.mean()),
    ]


def features(drawn: Drawn) -> tuple[float, float]:
    """The two scores at the best column, as `find_seam` weighs them."""
    rows = averaged_rows(upright(drawn))
    columns = np.arange(int(SEARCH[0] * rows.shape[1]), int(np.ceil(SEARCH[1] * rows.shape[1])))
    scores = row_scores(rows, columns)
    mean, weak = scores.mean(0), weakest_bands(scores)
    best = (mean + weak).argmax()
    return mean[best], weak[best]


def fit(count: int = COUNT, seed: int = 1, ridge: float = 0.01) -> NDArray[np.float64]:
    """Logistic regression by Newton's method on as many diptychs as singles of the train split: even odds."""
    kinds = ("diptych", "single")
    x = np.array(
        [
            [*features(d), 1]
            for k, kind in enumerate(kinds)
            for d in draw_pictures(kind, "train", seed + k, count)
        ]
    )
    y = np.repeat([1.0, 0.0], count)
    weights = np.zeros(3)
    for _ in range(100):
        p = 1 / (1 + np.exp(-x @ weights))
        slope = x.T @ (p - y) + ridge * weights
        weights -= np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + ridge * np.eye(3), slope)
    return weights


def pictures_per_second(rounds: int = 5) -> float:
    """Diptychs of two panels of 768x1024 in a second of CPU time."""
    halves = [draw_single(np.random.default_rng(n), load_subjects()).pixels for n in range(2)]
    panels = [np.asarray(Image.fromarray(half).resize((768, 1024))) for half in halves]
    pixels = np.concatenate(panels, axis=1)
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        find_seam(pixels)
        seconds.append(time.process_time() - start)
    return 1 / min(seconds)


def main() -> None:
    if "--fit" in sys.argv:
        print("coefficients of the mean score, of the weakest bands' and constant:", fit().round(2))
        return
    print(table(("500 drawn pictures each", "share"), [(what, f"{share:.1%}") for what, share in measure()]))
    print(f"1536x1024: {pictures_per_second():.0f} pictures/s of CPU time")


if __name__ == "__main__":
    main()
