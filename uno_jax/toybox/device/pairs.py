"""Batches of samples from a key, as pure functions: pairs, diptychs and text-image samples, as `samples`
draws them one by one.

Which subjects a batch shows, in which scenes and where, goes with the pictures; `prompts` makes the captions.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped, UInt8

from uno_jax.toybox.appearance import SLOTS
from uno_jax.toybox.device.composite import Drawn, Shot, World, draw_backdrops, render
from uno_jax.toybox.device.looks import Looks, draw_looks
from uno_jax.toybox.device.place import Placements, between, draw_light, draw_placements
from uno_jax.toybox.samples import Alike
from uno_jax.toybox.scenes import SCENES
from uno_jax.toybox.subjects import SubjectError

Probability = Float[Array, ""] | float
# 0 to 1, for all samples or for each.
Freedom = Float[Array, "*b"] | float
TWO_IN_TEXT_IMAGE, TWO_IN_DIPTYCH = 0.25, 0.3  # how often `samples` shows two subjects there


class Variety(NamedTuple):
    """How much the pictures of a sample differ, and subjects from those of the atlas."""

    freedom: Freedom = 1.0
    """How freely a subject stands in its reference: as in the target (0), or anywhere (1)."""
    invented: Float[Array, "*n"] | float | None = None
    """Share of the subjects that look as none of the atlas does (`looks`), of all or of each."""


FREE = Variety()


class Pairs(NamedTuple):
    """b targets with r subjects, each also alone in a reference."""

    target: UInt8[Array, "b size size 3"]
    refs: UInt8[Array, "b r size size 3"]
    scenes: Int[Array, " b"]
    ref_scenes: Int[Array, "b r"]
    subjects: Int[Array, "b r"]
    placements: Placements  # (b, r), of the target
    ref_placements: Placements


class TextImages(NamedTuple):
    """Pictures with one subject or, where `two`, with two."""

    target: UInt8[Array, "b size size 3"]
    scenes: Int[Array, " b"]
    subjects: Int[Array, "b 2"]
    two: Bool[Array, " b"]
    placements: Placements


class Diptychs(NamedTuple):
    """The first subject in two scenes side by side; on the right, where `two`, beside the second."""

    target: UInt8[Array, "b size width 3"]
    covered: Float[Array, "b size width"]  # by subjects
    scenes: Int[Array, "b 2"]
    subjects: Int[Array, "b 2"]
    two: Bool[Array, " b"]
    placements: Placements  # on the right


@partial(jax.jit, static_argnames=("batch", "references", "alike"))
def make_pairs(
    key: PRNGKeyArray,
    world: World,
    batch: int,
    references: int = 1,
    alike: Alike = "subject",
    variety: Variety = FREE,
) -> Pairs:
    """`batch` pairs with 1 to 4 references. With a `variety.freedom` below 1 a reference's subject stands
    nearer to how it stands in the target, with 0 just so, which is alike "place"; alike "picture" is for one
    reference.
    """
    if references not in (1, *SLOTS) or (alike == "picture" and references != 1):
        raise ValueError(f"a pair has 1 to 4 references, alike 'picture' 1; got {references}, {alike!r}")
    which, where, stand, apart, draw = jax.random.split(key, 5)
    subjects = _draw_different(which, len(world.atlas.names), (batch, references))
    scenes = _draw_different(where, len(SCENES), (batch, 1 + references))
    placements = draw_placements(stand, world.atlas, scenes[:, 0], subjects, _all(batch, references == 1))
    shown, looks = _all((batch, references)), _looks(key, world, subjects, variety.invented)
    targets = _shots(draw, world, scenes[:, 0], (subjects, shown, placements, looks))
    if alike == "picture":
        target = render(world, targets).image
        same = scenes[:, 0], scenes[:, :1]
        return Pairs(target, target[:, None], *same, subjects, placements, placements)
    # Every reference is a picture of its own with one subject.
    of_each = jax.tree.map(_one_a_row, (subjects, scenes[:, 1:], placements, looks))
    each, each_scene, same_place, its_looks = of_each
    share = 0.0 if alike == "place" else jnp.repeat(jnp.broadcast_to(variety.freedom, batch), references)
    alone = _place_near(apart, world, each_scene[:, 0], each, (same_place, share))
    of = (each, _all(each.shape), alone, its_looks)
    shots = _shots(jax.random.fold_in(draw, 1), world, each_scene[:, 0], of)
    target, refs = _render_both(world, targets, shots)
    refs, alone = jax.tree.map(lambda a: a.reshape(batch, references, *a.shape[1:]), (refs, _squeeze(alone)))
    return Pairs(target, refs, scenes[:, 0], scenes[:, 1:], subjects, placements, alone)


@partial(jax.jit, static_argnames="batch")
def make_text_images(
    key: PRNGKeyArray, world: World, batch: int, two: Probability = TWO_IN_TEXT_IMAGE
) -> TextImages:
    """`batch` pictures for captions, without references; with probability `two` of two subjects."""
    which, where, how_many, draw = jax.random.split(key, 4)
    subjects = _draw_different(which, len(world.atlas.names), (batch, 2))
    scenes = jax.random.randint(where, (batch,), 0, len(SCENES))
    both = jax.random.bernoulli(how_many, two, (batch,))
    target, placements = make_pictures(draw, world, scenes, subjects, both)
    return TextImages(target, scenes, subjects, both, placements)


@jax.jit
def make_pictures(
    key: PRNGKeyArray,
    world: World,
    scenes: Int[Array, " b"],
    subjects: Int[Array, "b k"],
    two: Bool[Array, " b"],
) -> tuple[UInt8[Array, "b size size 3"], Placements]:
    """Pictures of these subjects in these scenes; of the first subject only where not `two`."""
    drawn, placements = _draw_pictures(key, world, scenes, (subjects, two, None))
    return drawn.image, placements


def _draw_pictures(
    key: PRNGKeyArray,
    world: World,
    scenes: Int[Array, " b"],
    of: tuple[Int[Array, "b k"], Bool[Array, " b"], Looks | None],
) -> tuple[Drawn, Placements]:
    """As `make_pictures`, of subjects with these looks."""
    (subjects, two, looks), (stand, draw) = of, jax.random.split(key)
    placements = draw_placements(stand, world.atlas, scenes, subjects, ~two)
    shown = (jnp.arange(subjects.shape[1]) == 0) | two[:, None]
    return render(world, _shots(draw, world, scenes, (subjects, shown, placements, looks))), placements


@partial(jax.jit, static_argnames=("batch", "alike"))
def make_diptychs(
    key: PRNGKeyArray,
    world: World,
    batch: int,
    two: Probability = TWO_IN_DIPTYCH,
    alike: Alike = "subject",
    variety: Variety = FREE,
) -> Diptychs:
    """`batch` pictures twice as wide; the rest as for pairs, with the left half as the reference."""
    which, where, how_many, stand, draw = jax.random.split(key, 5)
    subjects = _draw_different(which, len(world.atlas.names), (batch, 2))
    scenes = _draw_different(where, len(SCENES), (batch, 2))
    both = jax.random.bernoulli(how_many, 0.0 if alike == "picture" else two, (batch,))
    looks = _looks(key, world, subjects, variety.invented)
    right, placements = _draw_pictures(draw, world, scenes[:, 1], (subjects, both, looks))
    if alike == "picture":
        scenes = jnp.repeat(scenes[:, 1:], 2, axis=1)
        return Diptychs(*_beside(right, right), scenes, subjects, both, placements)
    first, first_place, its_looks = jax.tree.map(lambda values: values[:, :1], (subjects, placements, looks))
    share = 0.0 if alike == "place" else jnp.broadcast_to(variety.freedom, batch)
    alone = _place_near(stand, world, scenes[:, 0], first, (first_place, share))
    of = (first, _all(first.shape), alone, its_looks)
    left = render(world, _shots(jax.random.fold_in(draw, 1), world, scenes[:, 0], of))
    return Diptychs(*_beside(left, right), scenes, subjects, both, placements)


def _beside(left: Drawn, right: Drawn) -> tuple[Array, Array]:
    """Pictures twice as wide, and what subjects cover of them."""
    image = jnp.concatenate([left.image, right.image], axis=2)
    return image, jnp.concatenate([left.covered, right.covered], axis=2)


def _looks(
    key: PRNGKeyArray, world: World, subjects: Int[Array, "b k"], invented: Float[Array, "*n"] | float | None
) -> Looks | None:
    if invented is None:
        return None
    return draw_looks(jax.random.fold_in(key, 1), subjects, len(world.atlas.names), invented)


def _place_near(
    key: PRNGKeyArray,
    world: World,
    scenes: Int[Array, " b"],
    subjects: Int[Array, "b 1"],
    near: tuple[Placements, Float[Array, " b"] | float],
) -> Placements:
    """Each subject alone, between how it stands elsewhere and anywhere, as far as its freedom goes."""
    stand, mix = jax.random.split(key)
    free = draw_placements(stand, world.atlas, scenes, subjects, _all(len(subjects)))
    alike, freedom = near
    share = jnp.broadcast_to(freedom, len(subjects))[:, None]
    return between(mix, (alike, free), share, world.atlas.shapes[subjects])


def _render_both(world: World, targets: Shot, references: Shot) -> tuple[Array, Array]:
    """The pictures of both; as one batch where the shapes allow, so that one program is compiled."""
    if targets.subjects.shape[1] != references.subjects.shape[1]:
        return render(world, targets).image, render(world, references).image
    both = render(world, jax.tree.map(lambda *two: jnp.concatenate(two), targets, references)).image
    return both[: len(targets.subjects)], both[len(targets.subjects) :]


def _shots(
    key: PRNGKeyArray,
    world: World,
    scenes: Int[Array, " b"],
    of: tuple[Int[Array, "b k"], Bool[Array, "b k"], Placements, Looks | None],
) -> Shot:
    """What is drawn, each in a light and before a background of its own."""
    backdrop, light = jax.random.split(key)
    return Shot(draw_backdrops(backdrop, world, scenes), *of[:3], draw_light(light, scenes), of[3])


def _draw_different(key: PRNGKeyArray, count: int, shape: tuple[int, int]) -> Int[Array, "b k"]:
    """In each row k different ones of `count`."""
    if count < shape[1]:
        raise SubjectError(f"{shape[1]} different subjects wanted, but only {count} given")
    return jax.lax.top_k(jax.random.uniform(key, (shape[0], count)), shape[1])[1]


def _all(shape: int | tuple[int, ...], value: bool = True) -> Bool[Array, "..."]:
    return jnp.full(shape, value)


def _one_a_row(values: Shaped[Array, "b k *n"]) -> Shaped[Array, "bk 1 *n"]:
    return values.reshape(-1, 1, *values.shape[2:])


def _squeeze(placements: Placements) -> Placements:
    return Placements(*(values[:, 0] for values in placements))
