"""Training batches of the toy world from a key, on the device: panels, text-image samples, pairs.

`progress` is the share of a part's time that is over, 0 to 1; a curriculum widens with it what a batch shows.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from uno_jax.families.uno.types import Batch
from uno_jax.small_training.worlds import Inputs
from uno_jax.toybox.device.caption_tokens import (
    Caption,
    Pieces,
    draw_captions,
    draw_panel_captions,
    to_tokens,
)
from uno_jax.toybox.device.pairs import Diptychs, Variety, make_diptychs, make_pairs, make_text_images
from uno_jax.toybox.device.place import Placements

Progress = Float[Array, ""]
BESIDE, ABOVE, DIAGONAL = range(3)  # how two panels lie
GAPS = 0.6  # share of the panels with a gap
BESIDE_OF_STRAIGHT = 0.6  # panels side by side among those that do not lie diagonally
SWAPPED = 0.5  # how often the second panel is the given one
NO_TEXT, NO_TEXT_ALONE = 0.1, 0.15  # how often the prompt is empty, with references and without
INVENTED = 0.6  # share of the subjects with references that look as no subject does
# How often a subject beside its one reference has another's name, so that the name does not say how it looks.
MISNAMED = 0.4


Course = tuple[tuple[float, float], ...]
"""Values by progress: (progress, value), rising, linear between and constant outside."""

# Somewhat nearer to the reference than anywhere: a model this small copies shapes better so.
FREEDOM_OF_PAIRS: Course = ((0.0, 0.3), (1.0, 0.6))


class Curriculum(NamedTuple):
    """What the two pictures of a sample share, by progress."""

    twice: Course = ((0.0, 0.0),)
    """Share of the samples whose pictures are one and the same."""
    freedom: Course = ((0.0, 1.0), (1.0, 4.0))
    """How freely a subject stands in the second picture: from 0 (as in the first) to this, at most 1."""
    straight: Course = ((0.0, 0.0),)
    """Share of the panels that lie side by side or one above the other; the rest lie diagonally, as UnoPE."""
    gap: Course = ((0.0, 0.0),)
    """The most tokens between two panels."""


Now = tuple[Curriculum, Progress]


def at(course: Course, progress: Progress) -> Progress:
    when, values = zip(*course, strict=True)
    return jnp.interp(progress, jnp.asarray(when), jnp.asarray(values))


class Panels(NamedTuple):
    """Two pictures a sample. The second is given without noise, but for the last samples, whole diptychs, of
    which both halves are to be drawn. Its tokens are moved by `shift` (rows, columns) from the first's.
    """

    first: Float[Array, "b size size 3"]
    second: Float[Array, "b size size 3"]
    caption: Caption
    shift: Float[Array, "b 2"]
    covered: Float[Array, "b two_panels"]  # share of each token that subjects cover


def as_floats(image: UInt8[Array, "*s"]) -> Float[Array, "*s"]:
    """From bytes to [-1, 1]."""
    return image.astype(jnp.float32) / 127.5 - 1


def draw_freedom(key: PRNGKeyArray, batch: int, limit: Float[Array, ""]) -> Float[Array, " b"]:
    return jnp.minimum(1.0, jax.random.uniform(key, (batch,)) * limit)


def draw_text_images(
    key: PRNGKeyArray, inputs: Inputs, batch: int, t5_length: int, no_text: float = NO_TEXT_ALONE
) -> Batch:
    """Pictures for captions, without references."""
    draw, say, drop = jax.random.split(key, 3)
    made = make_text_images(draw, inputs.world, batch)
    pieces = _captions_of_two(say, inputs, made.subjects, made.two, (made.scenes, made.placements))
    caption = _tokens(drop, inputs, pieces, (t5_length, no_text))
    return Batch(as_floats(made.target), (), caption.t5, caption.clip)


def draw_pairs(
    key: PRNGKeyArray, inputs: Inputs, sizes: tuple[int, int], t5_length: int, progress: Progress
) -> Batch:
    """UNO's pairs; `sizes` are the batch's and the number of references of each sample."""
    batch, references = sizes
    draw, say, drop, free = jax.random.split(key, 4)
    free_each = draw_freedom(free, batch, at(FREEDOM_OF_PAIRS, progress))
    made = make_pairs(draw, inputs.world, batch, references, variety=Variety(free_each, INVENTED))
    named = made.subjects
    if references == 1:
        named = misname(free, inputs, named, jnp.zeros(batch, bool))
    pieces = draw_captions(say, inputs.captions, named, made.scenes, made.placements)
    caption = _tokens(drop, inputs, pieces, (t5_length, NO_TEXT))
    refs = tuple(as_floats(made.refs[:, index]) for index in range(references))
    return Batch(as_floats(made.target), refs, caption.t5, caption.clip)


def misname(
    key: PRNGKeyArray, inputs: Inputs, subjects: Int[Array, "b k"], keep: Bool[Array, " b"]
) -> Int[Array, "b k"]:
    """The subjects to name in captions: in some samples, but not those to `keep`, another first one."""
    which, some = jax.random.split(jax.random.fold_in(key, 1))
    other = jax.random.randint(which, (len(subjects),), 0, len(inputs.world.atlas.names))
    renamed = jax.random.bernoulli(some, MISNAMED, (len(subjects),)) & ~keep
    return subjects.at[:, 0].set(jnp.where(renamed, other, subjects[:, 0]))


def draw_panels(
    key: PRNGKeyArray, inputs: Inputs, sizes: tuple[int, int, int], form: tuple[int, int], now: Now
) -> tuple[Panels, Batch]:
    """`sizes`: panels of one subject of which one is given, side by side, one above the other, or diagonal;
    whole diptychs; and captioned pictures without a second panel. All are drawn as diptychs at once.
    `form`: T5's length, and a panel's side in tokens.
    """
    panels, whole, pictures = sizes
    batch, (t5_length, side) = sum(sizes), form
    draw, say, drop, free, lay, twice = jax.random.split(key, 6)
    curriculum, progress = now
    free_each = draw_freedom(free, batch, at(curriculum.freedom, progress))
    # Captioned pictures show subjects as they are, by their names.
    kind = jnp.arange(batch)
    is_whole, is_picture = (kind >= panels) & (kind < panels + whole), kind >= panels + whole
    invented = jnp.where(is_picture, 0.0, INVENTED)[:, None]
    made = make_diptychs(draw, inputs.world, batch, variety=Variety(free_each, invented))
    named = misname(free, inputs, made.subjects, is_picture | made.two)
    left, right = zip(*(jnp.split(each, 2, axis=2) for each in (made.target, made.covered)), strict=True)
    again = (jax.random.uniform(twice, (batch,)) < at(curriculum.twice, progress)) & ~made.two
    left = _choose(again, right, left)
    scenes = jnp.where(again[:, None], made.scenes[:, 1:], made.scenes)
    placed, shift, swapped = _lay_out(lay, (batch, side), now)
    placed = jnp.where(is_whole, BESIDE, jnp.where(is_picture, DIAGONAL, placed))
    shift = jnp.where(is_whole[:, None], jnp.array([0.0, side]), shift)
    swapped = jnp.where(is_whole, True, swapped & ~is_picture)
    caption = _tokens(
        drop,
        inputs,
        _panel_captions(say, inputs, made._replace(scenes=scenes, subjects=named), placed),
        (t5_length, jnp.where(is_picture, NO_TEXT_ALONE, NO_TEXT)),
    )
    (first, cover), (second, other_cover) = _choose(swapped, left, right), _choose(swapped, right, left)
    covered = jnp.concatenate([token_means(each, side) for each in (cover, other_cover)], axis=1)
    everything = Panels(as_floats(first), as_floats(second), caption, shift, covered)
    of_panels, of_pictures = (
        jax.tree.map(lambda each, part=part: each[part], everything)
        for part in (slice(panels + whole), slice(panels + whole, None))
    )
    return of_panels, Batch(of_pictures.first, (), of_pictures.caption.t5, of_pictures.caption.clip)


def token_means(pixels: Float[Array, "b size size"], side: int) -> Float[Array, "b tokens"]:
    """The mean over the pixels of each of side x side tokens."""
    batch, size, _ = pixels.shape
    token = size // side
    return pixels.reshape(batch, side, token, side, token).mean((2, 4)).reshape(batch, -1)


def _choose(yes: Bool[Array, " b"], these: Any, those: Any) -> Any:
    """The samples of these arrays where `yes`, else of those."""
    return jax.tree.map(
        lambda one, other: jnp.where(yes.reshape(-1, *[1] * (one.ndim - 1)), one, other), these, those
    )


def _lay_out(
    key: PRNGKeyArray, sizes: tuple[int, int], now: Now
) -> tuple[Int[Array, " b"], Float[Array, "b 2"], Bool[Array, " b"]]:
    """How each sample's panels lie (BESIDE, ABOVE or DIAGONAL), by how many tokens the given one is moved
    from the other, and whether it is the second; `sizes` are the batch and a panel's side in tokens. Diagonal
    panels are never swapped.
    """
    (batch, panel), (curriculum, progress) = sizes, now
    kind_key, gap_key, some_key, swap_key = jax.random.split(key, 4)
    share = jax.random.uniform(kind_key, (batch,)) / at(curriculum.straight, progress)
    placed = jnp.where(share < BESIDE_OF_STRAIGHT, BESIDE, jnp.where(share < 1, ABOVE, DIAGONAL))
    gaps = jnp.round(jax.random.uniform(gap_key, (batch, 2)) * at(curriculum.gap, progress))
    gaps = jnp.where(jax.random.bernoulli(some_key, GAPS, (batch, 1)), gaps, 0.0)
    diagonal = placed == DIAGONAL
    swapped = jax.random.bernoulli(swap_key, SWAPPED, (batch,)) & ~diagonal
    away = (panel + gaps) * jnp.where(swapped | diagonal, 1.0, -1.0)[:, None]
    used = jnp.stack([placed != BESIDE, placed != ABOVE], axis=1)
    return placed, jnp.where(used, away, 0.0), swapped


def _panel_captions(key: PRNGKeyArray, inputs: Inputs, made: Diptychs, placed: Int[Array, " b"]) -> Pieces:
    """By how the panels lie; diagonal ones are described as a picture of its own, as UNO's pairs are."""
    panels, alone = jax.random.split(key)
    beside, above = draw_panel_captions(panels, inputs.captions, made.subjects, made.two, made.scenes)
    plain = _captions_of_two(alone, inputs, made.subjects, made.two, (made.scenes[:, 1], made.placements))
    of_panels = jnp.where((placed == BESIDE)[:, None], beside, above)
    return jnp.where((placed == DIAGONAL)[:, None], plain, of_panels)


def _captions_of_two(
    key: PRNGKeyArray,
    inputs: Inputs,
    subjects: Array,
    two: Bool[Array, " b"],
    where: tuple[Array, Placements],
) -> Pieces:
    """Captions of pictures that show one subject, or, where `two`, both."""
    scenes, placements = where
    first = jax.tree.map(lambda values: values[:, :1], placements)
    one = draw_captions(key, inputs.captions, subjects[:, :1], scenes, first)
    both = draw_captions(key, inputs.captions, subjects, scenes, placements)
    return jnp.where(two[:, None], both, one)


def _tokens(key: PRNGKeyArray, inputs: Inputs, pieces: Pieces, how: tuple[int, float | Array]) -> Caption:
    """Token ids, of the empty prompt in some samples."""
    t5_length, no_text = how
    dropped = jax.random.uniform(key, (len(pieces), 1)) < jnp.reshape(jnp.asarray(no_text), (-1, 1))
    return to_tokens(inputs.captions, jnp.where(dropped, 0, pieces), t5_length)
