"""Token ids of captions on the device, by the grammar of `captions`: the pieces of a caption are looked up in
tables of their tokens and laid one after another.

Both tokenizers treat every word on its own, so that the tokens of a line are those of its pieces. b pictures,
k subjects in each, p pieces of a caption.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from uno_jax.tokenizers import CLIP_BOS, CLIP_EOS, T5_EOS, T5_PAD, clip_tokens, t5_tokens
from uno_jax.toybox import captions as grammar
from uno_jax.toybox.captions import Template, noun, noun_phrase
from uno_jax.toybox.device.place import Placements
from uno_jax.toybox.scenes import SCENES

SIZES = ("", "small", "big")
SIDES = ("", "on the left,", "on the right,")
NOTHING = 0  # the piece without tokens
CLIP_LENGTH = 77
# For panels one above the other; their nouns have no colon.
ONE_ABOVE: dict[int, Template] = {
    1: ("two images of the same", "noun", "one above the other: top", "where,", "bottom", "there"),
    2: (
        "two images of the same",
        "noun",
        "one above the other: top",
        "where,",
        "bottom",
        "with",
        "1",
        "there",
    ),
}
ALL_TEMPLATES = (
    *(template for several in grammar.TEMPLATES.values() for template in several),
    *(grammar.ON_A_SIDE, *grammar.ON_BOTH_SIDES, *grammar.FROM_LEFT.values()),
    *(*grammar.SIDE_BY_SIDE.values(), *ONE_ABOVE.values()),
)
PIECES = max(map(len, ALL_TEMPLATES))  # of the longest caption
# Pieces that stand for a subject, a scene or a side.
PLACEHOLDERS = {
    "0",
    "1",
    "2",
    "3",
    "0,",
    "1,",
    "2,",
    "3,",
    "where",
    "where,",
    "there",
    "noun",
    "noun:",
    "side,",
}
LITERAL = (piece for template in ALL_TEMPLATES for piece in template if piece not in PLACEHOLDERS)
# The pieces that are the same for any subjects, by their numbers, which come first.
FIXED = {piece: number for number, piece in enumerate(dict.fromkeys(("", *SIDES[1:], *LITERAL)))}

Pieces = Int[Array, "b p"]
Values = Mapping[str, Int[Array, " b"]]


class Words(NamedTuple):
    """The tokens of every piece for one text encoder, and how many they are."""

    tokens: Int[Array, "n width"]
    lengths: Int[Array, " n"]


@flax.struct.dataclass
class CaptionTables:
    """Pieces by what they say; a second index is 1 where a comma follows."""

    __no_type_check__ = True  # as a pytree it also holds what jit.lower says of its arguments

    t5: Words
    clip: Words
    phrases: Int[Array, "names sizes 2"]
    nouns: Int[Array, "names 2"]  # the second with a colon
    scenes: Int[Array, "scenes most 2"]
    scene_phrases: Int[Array, " scenes"]  # how many a scene has


class Caption(NamedTuple):
    """Token ids for the two text encoders."""

    t5: Int[Array, "b length"]
    clip: Int[Array, "b 77"]


class Said(NamedTuple):
    """What captions can say, as text, in the shapes of the tables."""

    phrases: np.ndarray
    nouns: np.ndarray
    scenes: np.ndarray

    def pieces(self) -> list[str]:
        """Every piece once, by its number."""
        return list(dict.fromkeys([*FIXED, *(piece for part in self for piece in part.ravel().tolist())]))


def what_is_said(names: Sequence[str]) -> Said:
    """All that captions of subjects of these names can say."""
    most = max(len(scene.phrases) for scene in SCENES.values())
    padded = [scene.phrases + scene.phrases[:1] * (most - len(scene.phrases)) for scene in SCENES.values()]
    return Said(
        phrases=np.array([[with_comma(noun_phrase(name, size)) for size in SIZES] for name in names]),
        nouns=np.array([[noun(name), f"{noun(name)}:"] for name in names]),
        scenes=np.array([[with_comma(phrase) for phrase in row] for row in padded]),
    )


def make_caption_tables(names: Sequence[str]) -> CaptionTables:
    """The tables for subjects of these names; their order is the atlas's."""
    said = what_is_said(names)
    pieces = said.pieces()
    number = {piece: index for index, piece in enumerate(pieces)}

    def numbered(part: np.ndarray) -> Int[Array, "..."]:
        return jnp.asarray(np.vectorize(number.__getitem__)(part))

    return CaptionTables(
        t5=_words(pieces, _t5_pieces),
        clip=_words(pieces, _clip_pieces),
        phrases=numbered(said.phrases),
        nouns=numbered(said.nouns),
        scenes=numbered(said.scenes),
        scene_phrases=jnp.asarray([len(scene.phrases) for scene in SCENES.values()]),
    )


def with_comma(piece: str) -> list[str]:
    return [piece, f"{piece},"]


def _t5_pieces(pieces: Sequence[str]) -> list[list[int]]:
    return [[token for token in row if token not in (T5_PAD, T5_EOS)] for row in t5_tokens(pieces).tolist()]


def _clip_pieces(pieces: Sequence[str]) -> list[list[int]]:
    rows = clip_tokens(pieces).tolist()
    return [[token for token in row if token not in (CLIP_BOS, CLIP_EOS)] for row in rows]


def _words(pieces: Sequence[str], tokens_of: Callable[[Sequence[str]], list[list[int]]]) -> Words:
    rows = tokens_of(pieces)
    table = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for row, tokens in zip(table, rows, strict=True):
        row[: len(tokens)] = tokens
    return Words(jnp.asarray(table), jnp.asarray([len(row) for row in rows]))


def draw_captions(
    key: PRNGKeyArray,
    tables: CaptionTables,
    subjects: Int[Array, "b k"],
    scenes: Int[Array, " b"],
    placements: Placements,
) -> Pieces:
    """Captions of pictures that show all k subjects, as `captions.caption` says them."""
    which, scene_key = jax.random.split(key)
    says, template = jax.random.uniform(which, (2, len(scenes)))
    values = {"where": _scene(scene_key, tables, scenes)}
    if subjects.shape[1] == 1:
        return _with_one(jax.random.fold_in(key, 2), tables, (subjects[:, 0], template, values), placements)
    phrases = tables.phrases[subjects, 0]
    several = _one_of(grammar.TEMPLATES[subjects.shape[1]], template, _values(phrases, values))
    return jnp.where((says < grammar.SAYS_SIDES)[:, None], _in_order(phrases, placements, values), several)


def draw_panel_captions(
    key: PRNGKeyArray,
    tables: CaptionTables,
    subjects: Int[Array, "b 2"],
    two: Bool[Array, " b"],
    scenes: Int[Array, "b 2"],
) -> tuple[Pieces, Pieces]:
    """Captions of two panels side by side, and of two one above the other. The first subject is in both, the
    second beside it in the second panel where `two`.
    """
    first, second = (_scene(each, tables, scenes[:, i]) for i, each in enumerate(jax.random.split(key)))
    nouns = tables.nouns[subjects[:, 0]]
    values = _values(tables.phrases[subjects, 0], {"where": first})
    values |= {"noun": nouns[:, 0], "noun:": nouns[:, 1], "there": second[:, 0]}

    def pieces_of(templates: Mapping[int, Template]) -> Pieces:
        one, both = (_pieces(templates[count], values) for count in (1, 2))
        return jnp.where(two[:, None], both, one)

    return pieces_of(grammar.SIDE_BY_SIDE), pieces_of(ONE_ABOVE)


def to_tokens(tables: CaptionTables, pieces: Pieces, t5_length: int) -> Caption:
    """The token ids of captions, padded or truncated as the tokenizers do."""
    return Caption(
        _laid_out(tables.t5, pieces, t5_length, ((), T5_EOS, T5_PAD)),
        _laid_out(tables.clip, pieces, CLIP_LENGTH, ((CLIP_BOS,), CLIP_EOS, CLIP_EOS)),
    )


def _with_one(
    key: PRNGKeyArray,
    tables: CaptionTables,
    what: tuple[Int[Array, " b"], Float[Array, " b"], dict[str, Int[Array, "b 2"]]],
    placements: Placements,
) -> Pieces:
    subject, template, values = what
    says_size, says_side = jax.random.uniform(key, (2, len(subject)))
    x, extent = placements.x[:, 0], placements.extent[:, 0]
    size = jnp.where(extent < grammar.SMALL, 1, jnp.where(extent > grammar.BIG, 2, 0))
    phrase = tables.phrases[subject, jnp.where(says_size < grammar.SAYS_SIZE, size, 0)]
    values = _values(phrase[:, None], values)
    side = jnp.where(x < grammar.LEFT, 1, jnp.where(x > grammar.RIGHT, 2, 0))
    named = jnp.asarray([FIXED[piece] for piece in SIDES])[side]
    on_a_side = _pieces(grammar.ON_A_SIDE, values | {"side,": named})
    plain = _one_of(grammar.TEMPLATES[1], template, values)
    return jnp.where(((side > 0) & (says_side < grammar.SAYS_SIDE))[:, None], on_a_side, plain)


def _in_order(
    phrases: Int[Array, "b k 2"],
    placements: Placements,
    values: dict[str, Int[Array, "b 2"]],
) -> Pieces:
    if phrases.shape[1] == 2:
        left, right = (_pieces(each, _values(phrases, values)) for each in grammar.ON_BOTH_SIDES)
        return jnp.where((placements.x[:, 0] < placements.x[:, 1])[:, None], left, right)
    from_left = jnp.take_along_axis(phrases, jnp.argsort(placements.x, axis=1)[..., None], axis=1)
    return _pieces(grammar.FROM_LEFT[phrases.shape[1]], _values(from_left, values))


def _scene(key: PRNGKeyArray, tables: CaptionTables, scenes: Int[Array, " b"]) -> Int[Array, "b 2"]:
    chosen = jax.random.uniform(key, scenes.shape) * tables.scene_phrases[scenes]
    return tables.scenes[scenes, chosen.astype(jnp.int32)]


def _values(phrases: Int[Array, "b k 2"], scene: dict[str, Int[Array, "b 2"]]) -> dict[str, Int[Array, " b"]]:
    """What the pieces of a template stand for, without and with a comma."""
    both = {str(index): phrases[:, index] for index in range(phrases.shape[1])} | scene
    plain = {name: value[:, 0] for name, value in both.items()}
    return plain | {f"{name},": value[:, 1] for name, value in both.items()}


def _pieces(template: Template, values: Values) -> Pieces:
    batch = len(next(iter(values.values())))
    given = [values[piece] if piece in values else jnp.full(batch, FIXED[piece]) for piece in template]
    return jnp.pad(jnp.stack(given, 1), ((0, 0), (0, PIECES - len(template))), constant_values=NOTHING)


def _one_of(templates: Sequence[Template], share: Float[Array, " b"], values: Values) -> Pieces:
    every = jnp.stack([_pieces(template, values) for template in templates], 1)
    chosen = (share * len(templates)).astype(jnp.int32)
    return jnp.take_along_axis(every, chosen[:, None, None], axis=1)[:, 0]


def _laid_out(
    words: Words, pieces: Pieces, length: int, marks: tuple[tuple[int, ...], int, int]
) -> Int[Array, "b length"]:
    """The pieces' tokens one after another between the marks of start and end, then padding."""
    start, end, pad = marks
    ends = jnp.cumsum(words.lengths[pieces], axis=1)
    at = jnp.arange(length) - len(start)
    piece = (at[None, :, None] >= ends[:, None, :]).sum(-1)
    inside = jnp.minimum(piece, pieces.shape[1] - 1)
    begins = jnp.take_along_axis(ends - words.lengths[pieces], inside, axis=1)
    offset = jnp.clip(at - begins, 0, words.tokens.shape[1] - 1)
    token = words.tokens[jnp.take_along_axis(pieces, inside, axis=1), offset]
    total = jnp.minimum(ends[:, -1:], length - len(start) - 1)
    laid = jnp.where(at < total, token, jnp.where(at == total, end, pad))
    return laid.at[:, : len(start)].set(jnp.asarray(start, laid.dtype)) if start else laid
