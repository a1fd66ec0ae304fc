"""The samples of a packed row."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from uno_jax.networks.splits import Split, Splits

from .recording import Tensors

MIXTURE = "mix_in"
"""A row of samples of several kinds, of which only the order of their parts is not recorded."""
GIVEN = {"patchified_vae_latent_shapes", "patchified_vit_token_shapes", "packed_vit_tokens"}
"""What the mixture's samples are made from, and its texts' ids."""
ANSWER = "answer"  # a text with a loss
MIXED_PARTS = (
    ("vae", "vit", "text", "target"),
    ("text", "target"),
    ("vit", "text", ANSWER, "text", ANSWER),
    ("vae", "vit", "text", "target", "vae", "vit", "text", "target"),
)


class Sample(NamedTuple):
    """One sample of a packed row: its splits, the ids of its texts with bos and eos, the pictures that the
    ViT sees, channels last, and the numbers of texts that are to be predicted.
    """

    splits: Splits
    texts: tuple[np.ndarray, ...]
    pictures: tuple[np.ndarray, ...]
    answers: tuple[int, ...] = ()


def mixed_samples(arrays: Tensors, text_marks: tuple[int, int], patch: int) -> list[Sample]:
    """The samples of the mixture, from the grids and patches of its images and from its texts' ids between
    bos and eos.
    """

    def of(name: str) -> np.ndarray:
        return arrays[f"{MIXTURE}/{name}"]

    latents, cells = (
        iter(of(name).tolist()) for name in ("patchified_vae_latent_shapes", "patchified_vit_token_shapes")
    )
    texts, patches = texts_in(of("packed_text_ids"), *text_marks), iter(of("packed_vit_tokens"))
    found = []
    for parts in MIXED_PARTS:
        splits, own, pictures = [], [], []
        for part in parts:
            if part in ("text", ANSWER):
                own.append(next(texts))
                splits.append(Split("text", 1, len(own[-1])))
                continue
            splits.append(Split(part, *next(cells if part == "vit" else latents)))  # type: ignore[arg-type]
            if part == "vit":
                pictures.append(picture([next(patches) for _ in range(splits[-1].tokens)], splits[-1], patch))
        told = [part for part in parts if part in ("text", ANSWER)]
        answers = tuple(number for number, part in enumerate(told) if part == ANSWER)
        found.append(Sample(tuple(splits), tuple(own), tuple(pictures), answers))
    return found


def texts_in(ids: np.ndarray, bos: int, eos: int) -> Iterator[np.ndarray]:
    for start in np.flatnonzero(ids == bos):
        end = start + int(np.argmax(ids[start:] == eos))
        yield ids[start : end + 1]


def picture(patches: list[np.ndarray], cells: Split, side: int) -> np.ndarray:
    """The picture (h, w, 3) of flattened patches."""
    grid = np.stack(patches).reshape(cells.rows, cells.columns, side, side, -1).swapaxes(1, 2)
    return grid.reshape(cells.rows * side, cells.columns * side, -1)


def answer_indexes(sample: Sample, found: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray:
    """What `found` gives for the first token in the sample, and for the ids, of each text with a loss."""
    given, start, made = iter(enumerate(sample.texts)), 0, [np.array([], int)]
    for split in sample.splits:
        if split.kind == "text":
            number, ids = next(given)
            made += [found(start, ids)] if number in sample.answers else []
        start += split.length
    return np.concatenate(made)
