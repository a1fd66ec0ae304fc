"""The order of a sequence and its rope positions, as pure functions of sizes (Scone `dataset_base.py`)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from uno_jax.networks.splits import MARKS, Split, Splits

FULL, CAUSAL, DRAWN = range(3)  # modes of a split
OPEN, LOOKS, HIDDEN = range(3)  # by the bridge: tokens that look do not see those that are hidden

Size = tuple[int, int]  # rows, columns


class Reference(NamedTuple):
    """The tokens of a reference: of its latent, and of its ViT cells. Either may be absent."""

    vae: Size | None
    vit: Size | None


def reference_splits(reference: Reference) -> Splits:
    """A reference's latent, then its cells."""
    kinds = (("vae", reference.vae), ("vit", reference.vit))
    return tuple(Split(kind, *size) for kind, size in kinds if size is not None)  # type: ignore[arg-type]


def drawing_splits(references: Sequence[Reference], text: int | None, target: Size) -> Splits:
    """The sequence that a picture is drawn from: references, the instruction of `text` tokens with bos and
    eos (None: dropped), and the target.
    """
    given = [split for reference in references for split in reference_splits(reference)]
    instruction = [] if text is None else [Split("text", 1, text)]
    return (*given, *instruction, Split("target", *target))


def rope_positions(splits: Splits, start: int = 0) -> Int[np.ndarray, "l"]:
    """The rope positions of all tokens. An image has one for all of its tokens, a text one for each, and a
    target takes none away from what follows it.
    """
    positions: list[int] = []
    for split in splits:
        if split.kind == "text":
            positions += range(start, start + split.tokens)
        else:
            positions += [start] * split.length
        start += {"text": split.tokens, "target": 0}.get(split.kind, 1)
    return np.array(positions, np.int32)


def bridged_pairs(splits: Splits) -> list[tuple[int | None, int]]:
    """The splits of each reference with ViT cells: of its latent, if it has one, and of the cells."""
    return [
        (number - 1 if number and splits[number - 1].kind == "vae" else None, number)
        for number, split in enumerate(splits)
        if split.kind == "vit"
    ]


def token_rules(samples: Sequence[Splits]) -> Int[np.ndarray, "l 4"]:
    """What decides who sees whom in a row of several samples: the sample, the split in it, its mode, and what
    the bridge does, of every token. References are open; whose similarity is too low becomes HIDDEN.
    """
    rules: list[tuple[int, int, int, int]] = []
    for sample, splits in enumerate(samples):
        for number, split in enumerate(splits):
            mode = {"text": CAUSAL, "target": DRAWN}.get(split.kind, FULL)
            marks = MARKS if split.kind == "target" else split.length
            rules += [(sample, number, mode, OPEN)] * marks
            rules += [(sample, number, mode, LOOKS)] * (split.length - marks)
    return np.array(rules, np.int32).reshape(-1, 4)


def visible(rules: Int[np.ndarray, "l 4"]) -> Bool[np.ndarray, "l l"]:
    """Which tokens (columns) each token (row) sees: earlier splits of its sample but targets, all of its own
    split, or of a text what comes before.
    """
    (sample, split, mode, bridge), place = rules.T, np.arange(len(rules))
    earlier = (split < split[:, None]) & (mode != DRAWN)
    within = (split == split[:, None]) & ((mode != CAUSAL) | (place <= place[:, None]))
    hidden = (bridge[:, None] == LOOKS) & (bridge == HIDDEN)
    found: np.ndarray = (sample == sample[:, None]) & (earlier | within) & ~hidden
    return found
