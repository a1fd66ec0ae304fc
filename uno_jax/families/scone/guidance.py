"""Guidance by text and by images, and the renorm that keeps it from growing (BAGEL `bagel.py`)."""

from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from uno_jax.families.flow import descending, shifted

Renorm = Literal["text_channel", "channel", "global", "none"]
TINY = 1e-8


@jax.tree_util.register_static
@dataclass(frozen=True)
class Guidance:
    """How far the velocity goes away from that without the last text (`text`) and from that without images
    (`image`); a scale of 1 or less leaves one out. It acts at times in (interval[0], interval[1]].

    `renorm` shrinks the guided velocity, never below `renorm_min` of itself, to the norm of the plain one: of
    each token before the images' step ("text_channel") or after it ("channel"), or of a whole picture.
    """

    text: float = 4.0
    image: float = 2.0
    renorm: Renorm = "text_channel"
    renorm_min: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)

    @property
    def branches(self) -> tuple[str, ...]:
        """The contexts whose velocities are needed where it acts."""
        return ("cond", *(["text"] if self.text > 1 else []), *(["image"] if self.image > 1 else []))

    def acts_at(self, t: float) -> bool:
        return len(self.branches) > 1 and self.interval[0] < t <= self.interval[1]


def guided(velocities: dict[str, Float[Array, "b n c"]], guidance: Guidance) -> Float[Array, "b n c"]:
    """The guided velocity from those of `guidance.branches`."""
    plain = v = velocities["cond"]
    if "text" in velocities:
        v = velocities["text"] + guidance.text * (v - velocities["text"])
        if guidance.renorm == "text_channel":
            v = renormed(v, plain, -1, guidance.renorm_min)
    if "image" in velocities:
        v = velocities["image"] + guidance.image * (v - velocities["image"])
    if guidance.renorm in ("channel", "global"):
        v = renormed(v, plain, -1 if guidance.renorm == "channel" else (1, 2), guidance.renorm_min)
    return v


def renormed(
    v: Float[Array, "b n c"], plain: Float[Array, "b n c"], axes: int | tuple[int, int], least: float
) -> Float[Array, "b n c"]:
    """`v` with at most the norm of `plain` over some axes."""
    norms = [jnp.linalg.norm(each, axis=axes, keepdims=True) for each in (plain, v)]
    return v * jnp.clip(norms[0] / (norms[1] + TINY), least, 1.0)


def schedule(points: int, shift: float) -> Float[np.ndarray, "points"]:
    """`points` times from 1 to 0, for points - 1 steps, shifted towards noise: s t / (1 + (s - 1) t)."""
    return shifted(descending(points), float(np.log(shift)))


def segments(times: Float[np.ndarray, "points"], guidance: Guidance) -> tuple[tuple[int, bool], ...]:
    """Numbers of steps in a row with guidance, or without it."""
    acting = groupby(guidance.acts_at(float(t)) for t in times[:-1])
    return tuple((len(list(steps)), acts) for acts, steps in acting)
