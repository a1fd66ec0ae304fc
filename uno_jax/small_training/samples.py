"""Training batches of the toy world from a key, on the device: panels, text-image samples, pairs.

`progress` is the share of a part's time that is over, 0 to 1; a curriculum widens with it what a batch shows.
"""

from typing import NamedTuple

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
from uno_jax.toybox.device.pairs import Diptychs, make_diptychs, make_pairs, make_text_images
from uno_jax.toybox.device.place import Placements

Progress = Float[Array, ""]
TOKEN = 16  # pixels of a token's side
BESIDE, ABOVE, DIAGONAL = range(3)  # how two panels lie
GAPS = 0.6  # share of the panels with a gap
BESIDE_OF_STRAIGHT = 0.6  # panels side by side among those that do not lie diagonally
SWAPPED = 0.5  # how often the second panel is the given one
NO_TEXT, NO_TEXT_ALONE = 0.1, 0.15  # how often the prompt is empty, with references and without


Ends = tuple[Float[Array, ""] | float, Float[Array, ""] | float]  # at a part's start and at its end


class Curriculum(NamedTuple):
    """What the two pictures of a sample share: values at a part's start and at its end, linear between."""

    twice: Ends = (0.0, 0.0)
    """Share of the samples whose pictures are one and the same."""
    freedom: Ends = (1.0, 4.0)
    """How freely a subject stands in the second picture: from 0 (as in the first) to this, at most 1."""
    straight: Ends = (0.0, 0.0)
    """Share of the panels that lie side by side or one above the other; the rest lie diagonally, as UnoPE."""
    gap: Ends = (0.0, 0.0)
    """The most tokens between two panels."""


Now = tuple[Curriculum, Progress]


def at(values: Ends, progress: Progress) -> Progress:
    return values[0] + (values[1] - values[0]) * progress


class Panels(NamedTuple):
    """Two pictures a sample. The second is given without noise, but for the last samples, whole diptychs, of
    which both halves are to be drawn. Its tokens are moved by `shift` (rows, columns) from the first's.
    """

    first: Float[Array, "b size size 3"]
    second: Float[Array, "b size size 3"]
    caption: Caption
    shift: Float[Array, "b 2"]


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
    free_each = draw_freedom(free, batch, at(Curriculum().freedom, progress))
    made = make_pairs(draw, inputs.world, batch, references, freedom=free_each)
    pieces = draw_captions(say, inputs.captions, made.subjects, made.scenes, made.placements)
    caption = _tokens(drop, inputs, pieces, (t5_length, NO_TEXT))
    refs = tuple(as_floats(made.refs[:, index]) for index in range(references))
    return Batch(as_floats(made.target), refs, caption.t5, caption.clip)


def draw_panels(
    key: PRNGKeyArray, inputs: Inputs, sizes: tuple[int, int, int], t5_length: int, now: Now
) -> tuple[Panels, Batch]:
    """`sizes`: panels of one subject of which one is given, side by side, one above the other, or diagonal;
    whole diptychs; and captioned pictures without a second panel. All are drawn as diptychs at once.
    """
    panels, whole, pictures = sizes
    batch = sum(sizes)
    draw, say, drop, free, lay, twice = jax.random.split(key, 6)
    curriculum, progress = now
    free_each = draw_freedom(free, batch, at(curriculum.freedom, progress))
    made = make_diptychs(draw, inputs.world, batch, freedom=free_each)
    size = made.target.shape[1]
    left, right = made.target[:, :, :size], made.target[:, :, size:]
    again = (jax.random.uniform(twice, (batch,)) < at(curriculum.twice, progress)) & ~made.two
    left = jnp.where(again[:, None, None, None], right, left)
    scenes = jnp.where(again[:, None], made.scenes[:, 1:], made.scenes)
    placed, shift, swapped = _lay_out(lay, (batch, size // TOKEN), now)
    kind = jnp.arange(batch)
    is_whole, is_picture = (kind >= panels) & (kind < panels + whole), kind >= panels + whole
    placed = jnp.where(is_whole, BESIDE, jnp.where(is_picture, DIAGONAL, placed))
    shift = jnp.where(is_whole[:, None], jnp.array([0.0, size // TOKEN]), shift)
    swapped = jnp.where(is_whole, True, swapped & ~is_picture)
    caption = _tokens(
        drop,
        inputs,
        _panel_captions(say, inputs, made._replace(scenes=scenes), placed),
        (t5_length, jnp.where(is_picture, NO_TEXT_ALONE, NO_TEXT)),
    )
    swap = swapped[:, None, None, None]
    first, second = as_floats(jnp.where(swap, left, right)), as_floats(jnp.where(swap, right, left))
    cut = panels + whole
    alone = Batch(first[cut:], (), caption.t5[cut:], caption.clip[cut:])
    return Panels(
        *(jax.tree.map(lambda each: each[:cut], part) for part in (first, second, caption, shift))
    ), alone


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
