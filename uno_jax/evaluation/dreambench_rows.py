"""Pictures, prompts and photos -> DreamBench's rows, one a picture, with each of its scores."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from jaxtyping import Float, UInt8

from uno_jax import images
from uno_jax.evaluation.dreambench import Prompt
from uno_jax.evaluation.dreambench_scores import copied, subject_cosines
from uno_jax.evaluation.encoders import Encoder, image_cells, image_features, load_encoder, text_features

AT_A_TIME = 128  # pictures whose cells are held
DECIMALS = 6


class Encoders(NamedTuple):
    """DINO ViT-S/16 and CLIP ViT-B/32 for the paper's scores; any of the same kinds for others."""

    dino: Encoder
    clip: Encoder


class PictureFiles(Sequence[UInt8[np.ndarray, "h w 3"]]):
    """Pictures read when they are asked for."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(index, slice):
            return [_read(path) for path in self.paths[index]]
        return _read(self.paths[index])


def _read(path: Path) -> np.ndarray:
    return np.asarray(images.read_image(path).convert("RGB"))


def load_encoders(directory: Path) -> Encoders:
    return Encoders(load_encoder(directory / "dino"), load_encoder(directory / "clip"))


def score_rows(
    encoders: Encoders, prompts: Sequence[Prompt], paths: Sequence[Path], photos: Mapping[str, Sequence[Path]]
) -> list[dict[str, Any]]:
    """A row for each picture, whose prompt has the same index. Raises images.ImageError naming a picture."""
    pictures = PictureFiles(paths)
    seen, cosines = {}, {}
    for name, encoder in (("dino", encoders.dino), ("clip_i", encoders.clip)):
        seen[name] = image_features(encoder, pictures, f"{name}: pictures")
        cosines[name] = subject_cosines(seen[name], prompts, photo_features(encoder, photos, name))
    texts = list(dict.fromkeys(prompt.prompt for prompt in prompts))
    text = dict(zip(texts, text_features(encoders.clip, texts), strict=True))
    rows = []
    for index, (prompt, copies) in enumerate(
        zip(prompts, copy_rows(encoders.dino, prompts, pictures, photos), strict=True)
    ):
        row: dict[str, Any] = {
            "picture": paths[index].name,
            "prompt": prompt.prompt,
            "subjects": list(prompt.subjects),
            "category": prompt.category,
        }
        for name, found in cosines.items():
            row[name] = round(float(np.mean(found[index])), DECIMALS)
            if len(prompt.subjects) > 1:
                row[f"{name}_subjects"] = [round(value, DECIMALS) for value in found[index]]
                row[f"{name}_worst"] = round(min(found[index]), DECIMALS)
        row["clip_t"] = round(float(seen["clip_i"][index] @ text[prompt.prompt]), DECIMALS)
        rows.append(row | copies)
    return rows


def photo_features(
    encoder: Encoder, photos: Mapping[str, Sequence[Path]], what: str
) -> dict[str, Float[np.ndarray, "m d"]]:
    """Every subject's photos, encoded in one go."""
    every = [path for paths in photos.values() for path in paths]
    features = image_features(encoder, PictureFiles(every), f"{what}: photos")
    ends = np.cumsum([len(paths) for paths in photos.values()])
    return dict(zip(photos, np.split(features, ends[:-1]), strict=True))


def copy_rows(
    dino: Encoder, prompts: Sequence[Prompt], pictures: PictureFiles, photos: Mapping[str, Sequence[Path]]
) -> Iterator[dict[str, Any]]:
    """For each picture whether it copies the border or the layout of any of its references; None where a
    subject has no photo but the reference.
    """
    needed = dict.fromkeys(path for paths in photos.values() for path in paths)
    needed |= dict.fromkeys(path for prompt in prompts for path in prompt.references)
    cells = image_cells(dino, PictureFiles(list(needed)), "cells: photos")
    known = dict(zip(needed, cells, strict=True))
    for start in range(0, len(pictures), AT_A_TIME):
        some = image_cells(dino, pictures[start : start + AT_A_TIME], "cells: pictures")
        for prompt, picture in zip(prompts[start : start + AT_A_TIME], some, strict=True):
            yield copy_row(prompt, picture, known, photos)


def copy_row(
    prompt: Prompt,
    picture: Float[np.ndarray, "h w d"],
    cells: Mapping[Path, Float[np.ndarray, "h w d"]],
    photos: Mapping[str, Sequence[Path]],
) -> dict[str, Any]:
    found: dict[str, list[bool]] = {"copied_border": [], "copied_layout": []}
    for reference, subject in zip(prompt.references, prompt.subjects, strict=True):
        # Lists may name the reference by another path to the same file.
        others = [path for path in photos[subject] if path.name != reference.name]
        if others:
            views = [picture, cells[reference], *(cells[path] for path in others)]
            borders = [border(view) for view in views]
            found["copied_border"].append(copied(borders[0], borders[1], borders[2:]))
            found["copied_layout"].append(copied(views[0], views[1], views[2:]))
    return {name: any(values) if values else None for name, values in found.items()}


def border(cells: Float[np.ndarray, "h w d"]) -> Float[np.ndarray, "1 d"]:
    """The mean of the outermost cells, of length 1: the background, wherever things are in it."""
    rim = np.ones(cells.shape[:2], bool)
    rim[1:-1, 1:-1] = False
    mean = cells[rim].mean(0, keepdims=True)
    return mean / np.linalg.norm(mean)
