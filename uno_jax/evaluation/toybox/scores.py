"""Pictures of the cases -> verdicts on each -> scores; the model's, the base model's and real ones alike."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from uno_jax.evaluation.toybox import scenes
from uno_jax.evaluation.toybox.cases import left_to_right
from uno_jax.evaluation.toybox.ranking import (
    CANDIDATES,
    CROPS,
    ON_LEFT,
    cosines,
    cut_crops,
    draw_candidates,
    first_is_best,
    similarity,
    swapped,
)
from uno_jax.evaluation.toybox.scorer import Pictures, Scorer, features
from uno_jax.toybox import Sample, Subject, SubjectError, load_subjects


class Judge(NamedTuple):
    """Everything that verdicts need; `gallery` holds the features of each subject alone on white."""

    scorer: Scorer
    names: list[str]
    gallery: Float[np.ndarray, "s f"]
    ridge: scenes.Ridge
    seed: int


class Verdicts(NamedTuple):
    """One entry for each picture. The worse of two subjects counts; `exchanged` is None where the prompt
    names no left and right.
    """

    top1: Bool[np.ndarray, "n"]
    cosine: Float[np.ndarray, "n"]
    scene: list[str]
    scene_right: Bool[np.ndarray, "n"]
    exchanged: list[bool | None]


def check_subjects(subjects: Sequence[Subject]) -> None:
    """Raises SubjectError for too few: each of two subjects in a prompt is ranked among 19 others."""
    if len(subjects) < CANDIDATES + 1:
        raise SubjectError(
            f"evaluation needs at least {CANDIDATES + 1} subjects of split 'val', got {len(subjects)}"
        )


def make_judge(scorer: Scorer, subjects: Sequence[Subject], size: int, seed: int) -> Judge:
    """The judge of pictures of `subjects`. Scenes are learned from the shipped training subjects always."""
    gallery = features(scorer, [on_white(subject) for subject in subjects], "candidates").content
    ridge = scenes.learn_scenes(scorer, load_subjects(split="train"), size, seed)
    return Judge(scorer, [subject.name for subject in subjects], gallery, ridge, seed)


def on_white(subject: Subject) -> np.ndarray:
    """The subject in the middle of a white square, two thirds as wide as that."""
    cutout = subject.levels[0].convert("RGBA")
    side = 3 * max(cutout.size) // 2
    page = Image.new("RGBA", (side, side), "white")
    page.alpha_composite(cutout, ((side - cutout.width) // 2, (side - cutout.height) // 2))
    return np.asarray(page.convert("RGB"))


def judge_pictures(judge: Judge, cases: Sequence[Sample], pictures: Pictures, what: str) -> Verdicts:
    """Verdicts on one picture for each case; all cases show equally many subjects, one or two."""
    whole = features(judge.scorer, pictures, what)
    shown = np.array([[judge.names.index(name) for name in case.subjects] for case in cases])
    exchanged: list[bool | None] = [None] * len(cases)
    if shown.shape[1] == 1:
        cosine = cosines(whole.content[:, None], judge.gallery)
    else:
        crops = features(judge.scorer, [crop for each in pictures for crop in cut_crops(each)], what).content
        cosine = cosines(crops.reshape(len(cases), len(CROPS), -1), judge.gallery)
        exchanged = _exchanged(judge, cases, cosine)
    candidates = draw_candidates(np.random.default_rng([judge.seed, 4]), shown, len(judge.names))
    similar = similarity(cosine, candidates)
    predicted = [scenes.NAMES[index] for index in scenes.predict(judge.ridge, whole.border)]
    scene_right = np.array([case.scenes[0] == name for case, name in zip(cases, predicted, strict=True)])
    top1 = np.all(first_is_best(similar), axis=1)
    return Verdicts(np.asarray(top1), similar[..., 0].min(axis=1), predicted, scene_right, exchanged)


def _exchanged(
    judge: Judge, cases: Sequence[Sample], cosine: Float[np.ndarray, "n c s"]
) -> list[bool | None]:
    orders = [left_to_right(case) for case in cases]
    # Where the prompt names no order, any will do: the verdict is dropped.
    indices = [
        [judge.names.index(name) for name in order or case.subjects]
        for order, case in zip(orders, cases, strict=True)
    ]
    verdicts = swapped(cosine, np.array(indices), ON_LEFT)
    return [None if order is None else bool(each) for order, each in zip(orders, verdicts, strict=True)]


def summarise_verdicts(verdicts: Verdicts) -> dict[str, Any]:
    """The scores by the names of docs/evaluation.md; `swaps` only where prompts say left and right."""
    scores: dict[str, Any] = {
        "count": len(verdicts.top1),
        "top1": float(verdicts.top1.mean()),
        "cosine": float(verdicts.cosine.mean()),
        "scene_accuracy": float(verdicts.scene_right.mean()),
    }
    if sided := [each for each in verdicts.exchanged if each is not None]:
        scores |= {"sided": len(sided), "swaps": sum(sided) / len(sided)}
    return scores
