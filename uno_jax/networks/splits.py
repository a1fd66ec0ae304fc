"""Sequences of a mixture of transformers: splits of text and images, the streams of the two experts, and who
attends to whom.

A split sees all earlier splits but targets, which nothing else sees; an image sees all of itself, a text what
comes before in it (Scone `qwen2_navit.py`). Within a split the order of tokens does not matter to attention,
so the understanding expert's come first. That rule needs rectangles of full attention and one triangle for
each text, never a mask of every pair of tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from uno_jax.networks.attention.dispatch import Mask, attention

MARKS = 2  # tokens that begin and end an image


class Split(NamedTuple):
    """A part of a sequence: a text, the latent of a given image ("vae"), its ViT cells, or a picture that is
    drawn ("target"). `rows` and `columns` count an image's tokens; a text is one row, bos and eos included.
    """

    kind: Literal["text", "vit", "vae", "target"]
    rows: int
    columns: int

    @property
    def tokens(self) -> int:
        return self.rows * self.columns

    @property
    def generated(self) -> int:
        """Its tokens in the stream of the generation expert."""
        return self.tokens if self.kind in ("vae", "target") else 0

    @property
    def understood(self) -> int:
        """Its tokens in the stream of the understanding expert, an image's marks among them."""
        return self.length - self.generated

    @property
    def length(self) -> int:
        return self.tokens if self.kind == "text" else self.tokens + MARKS


Splits = tuple[Split, ...]
Bridge = Callable[[Float[Array, "b u d"]], Bool[Array, "b l"]]
"""From the understanding stream to the tokens, in the order of the splits, that targets may see."""


@jax.tree_util.register_static
@dataclass(frozen=True)
class Layout:
    """What is known of a call before it runs: its splits, and which cache each branch of the batch reads.

    With n branches a batch of b samples has n * b rows, branch after branch.
    """

    splits: Splits
    reads: tuple[int, ...] = ()
    bridge: Bridge | None = None
    keep: bool = False
    """Whether the keys and values of the call's own tokens are given back."""

    @property
    def branches(self) -> int:
        return max(1, len(self.reads))


class CachedKeys(NamedTuple):
    """Keys, after norm and rope, and values of earlier tokens: of one layer, or stacked over all; of every
    sample, or of one for all.
    """

    k: Float[Array, "*layers b s n d"]
    v: Float[Array, "*layers b s n d"]


@flax.struct.dataclass
class Seen:
    """Which keys exist: of the cache that each branch reads, and of the call's own tokens in the order of the
    splits. None: all of them.
    """

    cached: tuple[Bool[Array, "b s"], ...] = ()
    own: Bool[Array, "nb l"] | None = None


def joined(understood: Array, generated: Array, splits: Splits) -> Array:
    """Two streams as one sequence in the order of the splits, along axis 1."""
    parts, u, g = [], 0, 0
    for split in splits:
        parts += [understood[:, u : u + split.understood], generated[:, g : g + split.generated]]
        u, g = u + split.understood, g + split.generated
    return jnp.concatenate([part for part in parts if part.shape[1]], axis=1)


def parted(sequence: Array, splits: Splits) -> tuple[Array, Array]:
    """The inverse of `joined`."""
    streams: tuple[list[Array], list[Array]] = ([sequence[:, :0]], [sequence[:, :0]])
    for start, split in starts(splits):
        middle = start + split.understood
        streams[0].append(sequence[:, start:middle])
        streams[1].append(sequence[:, middle : start + split.length])
    understood, generated = (jnp.concatenate(parts, axis=1) for parts in streams)
    return understood, generated


def starts(splits: Splits) -> Iterator[tuple[int, Split]]:
    """Each split with the place of its first token in the sequence."""
    start = 0
    for split in splits:
        yield start, split
        start += split.length


def seen_spans(splits: Splits, number: int) -> list[tuple[int, int]]:
    """First and last (excluded) tokens of what a split sees, itself included, in as few spans as can be."""
    spans: list[tuple[int, int]] = []
    for index, (start, split) in enumerate(starts(splits[: number + 1])):
        end = start + split.length
        if split.kind == "target" and index < number:
            continue
        if spans and spans[-1][1] == start:
            start, _ = spans.pop()
        spans.append((start, end))
    return spans


def attend(
    heads: tuple[Array, Array, Array],
    layout: Layout,
    seen: Seen,
    cached: Sequence[CachedKeys],
    alike: Bool[Array, "b l"] | None = None,
) -> Float[Array, "nb l h d"]:
    """The attention of every split's queries to what it sees, from queries, keys and values in the order of
    the splits. Drawn tokens see of the call's own keys only those that are `alike`, their marks see all.
    """
    size = heads[0].shape[0] // layout.branches
    found = []
    for branch in range(layout.branches):
        rows = slice(branch * size, (branch + 1) * size)
        own = None if seen.own is None else seen.own[rows]
        keys = Keys(heads[1][rows], heads[2][rows], own)
        if layout.reads:
            before = cached[layout.reads[branch]]
            keys = Keys(keys.k, keys.v, own, before, seen.cached[branch])
        found.append(_attend_splits(heads[0][rows], keys, layout.splits, alike))
    return jnp.concatenate(found)


class Keys(NamedTuple):
    """The keys and values of one branch: its own tokens', and those of its cache."""

    k: Float[Array, "b l n d"]
    v: Float[Array, "b l n d"]
    own: Bool[Array, "b l"] | None
    before: CachedKeys | None = None
    cached: Bool[Array, "b s"] | None = None

    def of(
        self, spans: Sequence[tuple[int, int]], alike: Bool[Array, "b l"] | None
    ) -> tuple[Array, Array, Bool[Array, "b s"] | None]:
        """Keys, values and mask of the cache and of some spans of own tokens; None where all are seen."""
        masks = [mask for mask in (self.own, alike) if mask is not None]
        own = reduce(jnp.logical_and, masks, jnp.ones(self.k.shape[:2], bool))
        parts = [(self.k[:, a:b], self.v[:, a:b], own[:, a:b]) for a, b in spans]
        if self.before is not None and self.cached is not None:
            rows = len(self.k)  # a cache of one sample serves all
            k, v, seen = (jnp.broadcast_to(x, (rows, *x.shape[1:])) for x in (*self.before, self.cached))
            parts.insert(0, (k, v, seen))
        k, v, seen = (jnp.concatenate(each, axis=1) for each in zip(*parts, strict=True))
        return k, v, seen if masks or self.before is not None else None


def _attend_splits(q: Array, keys: Keys, splits: Splits, alike: Bool[Array, "b l"] | None) -> Array:
    found = []
    for number, (start, split) in enumerate(starts(splits)):
        spans, end = seen_spans(splits, number), start + split.length
        k, v, mask = keys.of(spans, None)
        if split.kind == "target" and alike is not None:
            found.append(attention(q[:, start : start + MARKS], k, v, mask=Mask(mask)))
            start, (k, v, mask) = start + MARKS, keys.of(spans, alike)
        found.append(attention(q[:, start:end], k, v, mask=Mask(mask, split.kind == "text")))
    return jnp.concatenate(found, axis=1)
