"""Which scene a picture's background is: ridge regression on features of real composites, in closed form."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageFilter

from uno_jax.evaluation.toybox.scorer import Scorer, features
from uno_jax.toybox import SCENES, Subject, compose

NAMES = tuple(SCENES)
PER_SCENE = 10  # composites to learn from, half of them with two subjects
SOFTNESS = (0, 1, 2)  # radii of the Gaussian blurs in which each is seen, in 1/128 of the width
STRENGTH = 0.1  # of the regularisation, for each feature


class Ridge(NamedTuple):
    """A linear classifier: the class is the largest of (features - mean) / spread @ weights."""

    mean: Float[np.ndarray, "f"]
    spread: Float[np.ndarray, "f"]
    weights: Float[np.ndarray, "f classes"]


def fit(x: Float[np.ndarray, "n f"], labels: Int[np.ndarray, "n"], classes: int) -> Ridge:
    """Least squares on one-hot labels, each feature scaled to variance 1, with a penalty on the weights."""
    mean, spread = x.mean(0), x.std(0) + 1e-6
    scaled = ((x - mean) / spread).astype(np.float64)
    wanted = np.eye(classes)[labels] - 1 / classes
    penalty = STRENGTH * x.shape[1] * np.eye(x.shape[1])
    return Ridge(mean, spread, np.linalg.solve(scaled.T @ scaled + penalty, scaled.T @ wanted))


def predict(ridge: Ridge, x: Float[np.ndarray, "n f"]) -> Int[np.ndarray, "n"]:
    """The class of each row of features."""
    classes: np.ndarray = ((x - ridge.mean) / ridge.spread @ ridge.weights).argmax(axis=1)
    return classes


def learn_scenes(scorer: Scorer, subjects: Sequence[Subject], size: int, seed: int) -> Ridge:
    """The classifier of scenes, learned from the borders of composites of `subjects`, which no scored picture
    may show. It sees them blurred too: learned from sharp ones alone, it takes any blurred forest, beach or
    carpet for snow or desert.
    """
    pictures, labels = [], []
    for label, scene in enumerate(NAMES):
        for i in range(PER_SCENE):
            rng = np.random.default_rng([seed, 3, label, i])
            shown = rng.choice(len(subjects), 1 + i % 2, replace=False)
            sharp = compose(rng, [subjects[index] for index in shown], scene, size).image
            pictures += [soften(sharp, softness) for softness in SOFTNESS]
            labels += [label] * len(SOFTNESS)
    return fit(features(scorer, pictures, "scenes").border, np.array(labels), len(NAMES))


def soften(picture: UInt8[np.ndarray, "h w 3"], softness: int | float) -> UInt8[np.ndarray, "h w 3"]:
    """The picture blurred by a Gaussian whose radius is `softness` / 128 of the width."""
    blur = ImageFilter.GaussianBlur(softness * picture.shape[1] / 128)
    return np.asarray(Image.fromarray(picture).filter(blur))
