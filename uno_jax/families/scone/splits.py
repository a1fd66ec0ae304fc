"""The order of a sequence and its rope positions, as pure functions of sizes (Scone `dataset_base.py`)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from uno_jax.networks.splits import Split, Splits

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
