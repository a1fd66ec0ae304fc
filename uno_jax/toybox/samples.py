"""Training samples from subjects and scenes: text-image, diptychs and pairs, in memory.

Only the given subjects are used: `load_subjects(split=…)` keeps splits apart. A sample depends only on its
subjects and generator, so that sample i of `default_rng([seed, i])` is the same in any order and on any host.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from uno_jax.toybox.captions import caption, diptych_caption
from uno_jax.toybox.compose import compose, cropped, place
from uno_jax.toybox.scenes import SCENES
from uno_jax.toybox.subjects import Subject, SubjectError

SCENE_NAMES = tuple(SCENES)
# What the pictures of a pair or a diptych share: the subject; its place, size and rotation as well; all.
Alike = Literal["subject", "place", "picture"]


@dataclass(frozen=True)
class Sample:
    """Pictures are uint8 (height, width, 3). `scenes` are the target's: one, or two for a diptych."""

    prompt: str
    target: NDArray[np.uint8]
    references: tuple[NDArray[np.uint8], ...]
    subjects: tuple[str, ...]
    scenes: tuple[str, ...]
    reference_scenes: tuple[str, ...] = ()
    mask: NDArray[np.uint8] | None = None
    """Of the target, (height, width), white in its subjects' boxes; None for a diptych."""


def text_image(rng: Generator, subjects: Sequence[Subject], size: int, two: float = 0.25) -> Sample:
    """A caption and its picture, without references; with probability `two` it shows two subjects."""
    shown = _draw_subjects(rng, subjects, 2 if rng.random() < two else 1)
    (scene,) = _draw_scenes(rng, 1)
    composite = compose(rng, shown, scene, size)
    names = tuple(subject.name for subject in shown)
    prompt = caption(rng, names, composite)
    return Sample(prompt, composite.image, (), names, (scene,), mask=composite.mask)


def diptych(
    rng: Generator, subjects: Sequence[Subject], size: int, two: float = 0.3, alike: Alike = "subject"
) -> Sample:
    """One picture of (size, 2 * size): the same subject in two scenes side by side, with a second subject on
    the right with probability `two`; if `alike` is "picture", the same picture twice.
    """
    if alike == "picture":
        one = text_image(rng, subjects, size, two=0.0)
        scenes = one.scenes[0], one.scenes[0]
        prompt = diptych_caption(rng, one.subjects, scenes)
        return Sample(prompt, np.tile(one.target, (1, 2, 1)), (), one.subjects, scenes)
    shown = _draw_subjects(rng, subjects, 2 if rng.random() < two else 1)
    left, right = _draw_scenes(rng, 2)
    placements = place(rng, shown, SCENES[right]) if alike == "place" else ()
    halves = [
        compose(rng, shown[:1], left, size, placements[:1]).image,
        compose(rng, shown, right, size, placements).image,
    ]
    names = tuple(subject.name for subject in shown)
    prompt = diptych_caption(rng, names, (left, right))
    return Sample(prompt, np.concatenate(halves, axis=1), (), names, (left, right))


def pair(
    rng: Generator,
    subjects: Sequence[Subject],
    size: int,
    references: int = 1,
    alike: Alike = "subject",
    crop_second: bool = False,
) -> Sample:
    """A target with `references` (1 to 4) subjects, and a reference for each, in which it is alone in another
    scene; if `alike` is "picture", the target itself is the reference. `crop_second` crops the second
    reference from the target and changes nothing else.

    Raises ValueError for options that contradict each other, SubjectError for too few subjects.
    """
    if crop_second and references != 2:
        raise ValueError(f"crop_second needs 2 references, got {references}")
    if alike == "picture":
        if references != 1:
            raise ValueError(f"alike 'picture' needs 1 reference (the target itself), got {references}")
        one = text_image(rng, subjects, size, two=0.0)
        return replace(one, references=(one.target,), reference_scenes=one.scenes)
    shown = _draw_subjects(rng, subjects, references)
    scene, *reference_scenes = _draw_scenes(rng, 1 + references)
    composite = compose(rng, shown, scene, size)
    alone = [
        compose(rng, [each], its_scene, size, [placement] if alike == "place" else None).image
        for each, its_scene, placement in zip(shown, reference_scenes, composite.placements, strict=True)
    ]
    if crop_second:
        alone[1], reference_scenes[1] = cropped(composite, 1), scene
    names = tuple(subject.name for subject in shown)
    prompt = caption(rng, names, composite)
    return Sample(
        prompt, composite.image, tuple(alone), names, (scene,), tuple(reference_scenes), composite.mask
    )


def _draw_subjects(rng: Generator, subjects: Sequence[Subject], count: int) -> list[Subject]:
    if not 1 <= count <= 4:
        raise ValueError(f"a sample shows one to four subjects, got {count}")
    if len(subjects) < count:
        raise SubjectError(f"{count} different subjects needed, but only {len(subjects)} given")
    return [subjects[index] for index in rng.choice(len(subjects), count, replace=False)]


def _draw_scenes(rng: Generator, count: int) -> list[str]:
    return [SCENE_NAMES[index] for index in rng.choice(len(SCENE_NAMES), count, replace=False)]
