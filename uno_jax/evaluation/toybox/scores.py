"""Pictures of the cases -> verdicts on each -> scores; the model's, the base model's and real ones alike."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from uno_jax.evaluation.toybox import places, scenes
from uno_jax.evaluation.toybox.cases import KINDS, USUAL, Kind, left_to_right
from uno_jax.evaluation.toybox.ranking import (
    CANDIDATES,
    CROPS,
    Grid,
    cosines,
    cut_crops,
    draw_candidates,
    first_is_best,
    similarity,
    swapped,
)
from uno_jax.evaluation.toybox.scorer import Pictures, Scorer, cell_cosines, features
from uno_jax.toybox import Sample, Subject, SubjectError, load_subjects


class Judge(NamedTuple):
    """Everything that verdicts need; `gallery` holds the features of each subject alone on white."""

    scorer: Scorer
    names: list[str]
    gallery: Float[np.ndarray, "s f"]
    ridge: scenes.Ridge
    seed: int


class Verdicts(NamedTuple):
    """One entry for each picture. The worst of several subjects counts; `exchanged` is None where the prompt
    names no order from left to right. `placed` is empty but for the kind of that name. `scene_copied`: the
    background is taken for that of a reference, which is never the scene asked for.
    """

    top1: Bool[np.ndarray, "n"]
    cosine: Float[np.ndarray, "n"]
    scene: list[str]
    scene_right: Bool[np.ndarray, "n"]
    exchanged: list[bool | None]
    placed: Sequence[bool] = ()
    scene_copied: Sequence[bool] = ()


def check_subjects(subjects: Sequence[Subject], kinds: Sequence[Kind] = USUAL) -> None:
    """Raises SubjectError for too few: each subject in a prompt is ranked among 19 that are not in it."""
    least = CANDIDATES - 1 + max(KINDS[kind] for kind in kinds)
    if len(subjects) < least:
        raise SubjectError(f"evaluation needs at least {least} subjects of split 'val', got {len(subjects)}")


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


def judge_pictures(
    judge: Judge, cases: Sequence[Sample], pictures: Pictures, kind: Kind, what: str = ""
) -> Verdicts:
    """Verdicts on one picture for each case of a kind; `what` names them on the progress bar."""
    what = what or kind
    whole = features(judge.scorer, pictures, what)
    shown = np.array([[judge.names.index(name) for name in case.subjects] for case in cases])
    exchanged: list[bool | None] = [None] * len(cases)
    if shown.shape[1] == 1:
        cosine = cosines(whole.content[:, None], judge.gallery)
    else:
        grid = CROPS[shown.shape[1]]
        crops = [crop for each in pictures for crop in cut_crops(each, grid)]
        content = features(judge.scorer, crops, what).content
        cosine = cosines(content.reshape(len(cases), len(grid.columns), -1), judge.gallery)
        exchanged = _exchanged(judge, cases, cosine, grid)
    candidates = draw_candidates(np.random.default_rng([judge.seed, 4]), shown, len(judge.names))
    similar = similarity(cosine, candidates)
    predicted = [scenes.NAMES[index] for index in scenes.predict(judge.ridge, whole.border)]
    scene_right = np.array([case.scenes[0] == name for case, name in zip(cases, predicted, strict=True)])
    top1 = np.all(first_is_best(similar), axis=1)
    placed = _placed(judge, cases, pictures, what) if kind == "placed" else ()
    copied = [name in case.reference_scenes for case, name in zip(cases, predicted, strict=True)]
    cosine_of_worst = similar[..., 0].min(axis=1)
    return Verdicts(np.asarray(top1), cosine_of_worst, predicted, scene_right, exchanged, placed, copied)


def _exchanged(
    judge: Judge, cases: Sequence[Sample], cosine: Float[np.ndarray, "n c s"], grid: Grid
) -> list[bool | None]:
    orders = [left_to_right(case) for case in cases]
    # Where the prompt names no order, any will do: the verdict is dropped.
    indices = [
        [judge.names.index(name) for name in order or case.subjects]
        for order, case in zip(orders, cases, strict=True)
    ]
    verdicts = swapped(cosine, np.array(indices), grid.columns)
    return [None if order is None else bool(each) for order, each in zip(orders, verdicts, strict=True)]


def _placed(judge: Judge, cases: Sequence[Sample], pictures: Pictures, what: str) -> list[bool]:
    own = judge.gallery[[judge.names.index(case.subjects[0]) for case in cases]]
    likeness = cell_cosines(judge.scorer, pictures, own, f"places of {what}")
    return places.follow_prompts(cases, places.centres(likeness))


def summarise_verdicts(verdicts: Verdicts) -> dict[str, Any]:
    """The scores by the names of docs/evaluation.md; `swaps` only where prompts name an order, `placed`
    where they name a side."""
    scores: dict[str, Any] = {
        "count": len(verdicts.top1),
        "top1": float(verdicts.top1.mean()),
        "cosine": float(verdicts.cosine.mean()),
        "scene_accuracy": float(verdicts.scene_right.mean()),
    }
    if verdicts.scene_copied:
        scores["copied_scene"] = sum(verdicts.scene_copied) / len(verdicts.scene_copied)
    if sided := [each for each in verdicts.exchanged if each is not None]:
        scores |= {"sided": len(sided), "swaps": sum(sided) / len(sided)}
    if verdicts.placed:
        scores["placed"] = sum(verdicts.placed) / len(verdicts.placed)
    return scores
