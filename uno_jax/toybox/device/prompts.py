"""The captions of a batch made on the device, by the grammar of `captions`, on the host.

A caption depends on the seed, on its place in the batch and on what the picture shows.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Bool, Int

from uno_jax.toybox.captions import caption, diptych_caption
from uno_jax.toybox.compose import Composite, Placement
from uno_jax.toybox.device.pairs import Diptychs, Pairs, TextImages
from uno_jax.toybox.device.place import Placements
from uno_jax.toybox.samples import SCENE_NAMES

NO_PICTURE = np.empty((0, 0, 3), np.uint8)  # captions do not look at it


def prompts(names: Sequence[str], samples: Pairs | TextImages | Diptychs, seed: int) -> list[str]:
    """A caption for each target; `names` are the atlas's."""
    if isinstance(samples, Pairs):
        return _captions(names, samples, np.ones(len(samples.scenes), bool), seed)
    shown = jax.device_get((samples.subjects, samples.two))
    if isinstance(samples, TextImages):
        return _captions(names, samples, shown[1], seed)
    scenes = np.asarray(samples.scenes)
    return [
        diptych_caption(rng, each, (SCENE_NAMES[left], SCENE_NAMES[right]))
        for rng, each, (left, right) in zip(
            _generators(seed, len(scenes)), _named(names, *shown), scenes, strict=True
        )
    ]


def _captions(
    names: Sequence[str], samples: Pairs | TextImages, two: Bool[np.ndarray, " b"], seed: int
) -> list[str]:
    """For one scene a picture."""
    subjects, scenes, placements = jax.device_get((samples.subjects, samples.scenes, samples.placements))
    lines = []
    for index, (rng, each) in enumerate(
        zip(_generators(seed, len(scenes)), _named(names, subjects, two), strict=True)
    ):
        standing = tuple(placement(placements, index, slot) for slot in range(len(each)))
        scene = Composite(NO_PICTURE, SCENE_NAMES[scenes[index]], standing, ())
        lines.append(caption(rng, each, scene))
    return lines


def placement(placements: Placements, row: int, slot: int) -> Placement:
    """One subject's placement as the drawn composer has it."""
    x, feet, extent, degrees, flip, tilt = (np.asarray(values[row, slot]) for values in placements)
    left, top = tilt.tolist()
    return Placement(x.item(), feet.item(), extent.item(), degrees.item(), flip.item(), (left, top))


def _generators(seed: int, count: int) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, index]) for index in range(count)]


def _named(
    names: Sequence[str], subjects: Int[np.ndarray, "b k"], two: Bool[np.ndarray, " b"]
) -> list[tuple[str, ...]]:
    """Who is seen in each picture: the second subject only where there are two."""
    return [
        tuple(names[index] for index in (row if both else row[:1]))
        for row, both in zip(subjects, two, strict=True)
    ]
