"""Pictures, prompts and photos -> DreamBench's rows, one a picture, with each of its scores."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from uno_jax.evaluation.dreambench.prompts import Prompt
from uno_jax.evaluation.dreambench.scores import copied
from uno_jax.evaluation.encoders import (
    BATCH,
    Encoder,
    image_features,
    image_looks,
    load_encoder,
    text_features,
)
from uno_jax.support import images

DECIMALS = 6


class Encoders(NamedTuple):
    """DINO ViT-S/16 and CLIP ViT-B/32 for the paper's scores; any of the same kinds for others."""

    dino: Encoder
    clip: Encoder


class Look(NamedTuple):
    """The features of one picture, of length 1: DINO's, CLIP's, and in `cells` DINO's of every patch."""

    dino: Float[np.ndarray, "d"]
    clip_i: Float[np.ndarray, "e"]
    cells: Float[np.ndarray, "h w d"]


def load_encoders(directory: Path) -> Encoders:
    """The encoders in DIRECTORY/dino and DIRECTORY/clip."""
    return Encoders(load_encoder(directory / "dino"), load_encoder(directory / "clip"))


def score_rows(
    encoders: Encoders, prompts: Sequence[Prompt], paths: Sequence[Path], photos: Mapping[str, Sequence[Path]]
) -> list[dict[str, Any]]:
    """A row for each picture, whose prompt has the same index.

    Raises images.ImageError naming a picture that cannot be read.
    """
    needed = dict.fromkeys(path for each in photos.values() for path in each)
    needed |= dict.fromkeys(path for prompt in prompts for path in prompt.references)
    known = dict(zip(needed, looks(encoders, list(needed), "photos"), strict=True))
    texts = list(dict.fromkeys(prompt.prompt for prompt in prompts))
    text = dict(zip(texts, text_features(encoders.clip, texts), strict=True))
    rows = []
    for path, prompt, look in zip(paths, prompts, looks(encoders, paths, "pictures"), strict=True):
        asked = {"prompt": prompt.prompt, "subjects": list(prompt.subjects), "category": prompt.category}
        clip_t = round(float(look.clip_i @ text[prompt.prompt]), DECIMALS)
        cosines = subject_scores(prompt, look, known, photos)
        copies = copy_row(prompt, look.cells, known, photos)
        rows.append({"picture": path.name, **asked, **cosines, "clip_t": clip_t, **copies})
    return rows


def looks(encoders: Encoders, paths: Sequence[Path], what: str) -> Iterator[Look]:
    """The features of pictures, which are read batch by batch."""
    with tqdm(total=len(paths), desc=f"encoding {what}", leave=False, dynamic_ncols=True) as bar:
        for start in range(0, len(paths), BATCH):
            some = paths[start : start + BATCH]
            pictures = [np.asarray(images.read_image(path)) for path in some]
            dino, cells = image_looks(encoders.dino, pictures)
            yield from map(Look, dino, image_features(encoders.clip, pictures), cells)
            bar.update(len(some))


def subject_scores(
    prompt: Prompt, look: Look, known: Mapping[Path, Look], photos: Mapping[str, Sequence[Path]]
) -> dict[str, Any]:
    """For each network the mean cosine with the subjects' photos; for several subjects each one's and the
    worst too.
    """
    row: dict[str, Any] = {}
    for name in ("dino", "clip_i"):
        own = getattr(look, name)
        each = [
            float(np.mean([getattr(known[path], name) @ own for path in photos[subject]]))
            for subject in prompt.subjects
        ]
        row[name] = round(float(np.mean(each)), DECIMALS)
        if len(each) > 1:
            row[f"{name}_subjects"] = [round(value, DECIMALS) for value in each]
            row[f"{name}_worst"] = round(min(each), DECIMALS)
    return row


def copy_row(
    prompt: Prompt,
    picture: Float[np.ndarray, "h w d"],
    known: Mapping[Path, Look],
    photos: Mapping[str, Sequence[Path]],
) -> dict[str, Any]:
    """Whether a picture copies the border or the layout of any of its references; None where no subject has a
    photo besides its reference.
    """
    found: dict[str, list[bool]] = {"copied_border": [], "copied_layout": []}
    for reference, subject in zip(prompt.references, prompt.subjects, strict=True):
        # Lists may name the reference by another path to the same file.
        others = [path for path in photos[subject] if path.name != reference.name]
        if others:
            views = [picture, *(known[path].cells for path in (reference, *others))]
            borders = [border(view) for view in views]
            found["copied_border"].append(copied(borders[0], borders[1], borders[2:]))
            found["copied_layout"].append(copied(views[0], views[1], views[2:]))
    return {name: any(values) if values else None for name, values in found.items()}


def border(cells: Float[np.ndarray, "h w d"]) -> Float[np.ndarray, "1 d"]:
    """The mean of the outermost cells, scaled to length 1: the background, wherever things are in it."""
    rim = np.ones(cells.shape[:2], bool)
    rim[1:-1, 1:-1] = False
    mean = cells[rim].mean(0, keepdims=True)
    scaled: np.ndarray = mean / np.linalg.norm(mean)
    return scaled
