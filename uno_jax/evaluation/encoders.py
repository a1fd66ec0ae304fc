"""Pictures and prompts -> features of length 1, whose products are cosines, by DINO or CLIP.

A directory holds the vision transformer (vit/) and, for CLIP, its text tower with projection (clip/). Both
are written by uno-convert.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jaxtyping import Array, Float32, Int, UInt8
from tqdm import tqdm

from uno_jax.evaluation.preprocess import crop_picture, normalise
from uno_jax.evaluation.toybox.scorer import Pictures
from uno_jax.networks.clip import CLIPConfig
from uno_jax.networks.registry import apply
from uno_jax.networks.vit import ViTConfig
from uno_jax.support.compiler_options import EIGEN_PRODUCTS
from uno_jax.support.errors import CheckpointError
from uno_jax.support.trees import Params
from uno_jax.tokenizers import CLIP_EOS, clip_tokens
from uno_jax.weights.checkpoint import read_config, restore_network

BATCH = 16
VIT, TEXT = "vit", "clip"  # kinds, and their folders


class TextTower(NamedTuple):
    """CLIP's text tower with its projection."""

    config: CLIPConfig
    params: Params


class Encoder(NamedTuple):
    """A vision transformer; `text` is None for all but CLIP."""

    config: ViTConfig
    params: Params
    text: TextTower | None


def check_encoder(directory: Path) -> None:
    """Raises FileNotFoundError or CheckpointError unless `directory` holds a vision transformer, alone or
    with the text tower that belongs to it.
    """
    if not (directory / VIT).is_dir():
        raise FileNotFoundError(
            f"no encoder {directory / VIT}: make it with uno-convert vit --src WEIGHTS --dst {directory}"
        )
    vision = cast(ViTConfig, read_config(directory / VIT, VIT))
    if not (directory / TEXT).is_dir():
        return
    text = cast(CLIPConfig, read_config(directory / TEXT, TEXT))
    if not text.projection or text.projection != vision.projection:
        raise CheckpointError(
            f"{directory}: the vision tower is projected to {vision.projection} and the text tower to "
            f"{text.projection}: convert both from one CLIP with projections, the text tower with "
            "uno-convert clip --projection"
        )
    if text.vocab_size <= CLIP_EOS:
        raise CheckpointError(
            f"{directory / TEXT} has {text.vocab_size} tokens, but CLIP's prompts have ids up to {CLIP_EOS}"
        )


def load_encoder(directory: Path) -> Encoder:
    """The encoder in `directory`, in float32.

    Raises as `check_encoder`.
    """
    directory = Path(directory)
    check_encoder(directory)
    config, params = restore_network(directory / VIT, VIT, dtype=np.float32)
    text = None
    if (directory / TEXT).is_dir():
        text_config, text_params = restore_network(directory / TEXT, TEXT, dtype=np.float32)
        text = TextTower(cast(CLIPConfig, text_config), text_params)
    return Encoder(cast(ViTConfig, config), params, text)


def image_features(
    encoder: Encoder, pictures: Pictures, what: str = "pictures"
) -> Float32[np.ndarray, "n width"]:
    """Features of length 1 of pictures of any sizes; `what` names them on the progress bar."""

    def features(some: Pictures) -> tuple[Array]:
        return (_features()(encoder.config, encoder.params, _crops(encoder, some)),)

    (found,) = _in_batches(features, [(encoder.config.width,)], pictures, what)
    return found


def image_looks(
    encoder: Encoder, pictures: Pictures, what: str = "pictures"
) -> tuple[Float32[np.ndarray, "n width"], Float32[np.ndarray, "n h w d"]]:
    """`image_features`, and features of length 1 of every patch, in the network's rows and columns."""

    def looks(some: Pictures) -> tuple[Array, Array]:
        whole, cells = _features()(encoder.config, encoder.params, _crops(encoder, some), True)
        return whole, cells

    side, width = encoder.config.resolution // encoder.config.patch_size, encoder.config.hidden_size
    shapes = [(encoder.config.width,), (side, side, width)]
    whole, cells = _in_batches(looks, shapes, pictures, what)
    return whole, cells


def text_features(
    encoder: Encoder, prompts: Sequence[str], what: str = "prompts"
) -> Float32[np.ndarray, "n width"]:
    """Features of length 1 of prompts, cut at CLIP's 77 tokens.

    Raises ValueError without a text tower.
    """
    if encoder.text is None:
        raise ValueError(
            "this encoder has no text tower: prompts are compared by CLIP, whose directory gets one from "
            "uno-convert clip --projection"
        )
    config, params = encoder.text

    def features(some: Sequence[str]) -> tuple[Array]:
        return (_features()(config, params, _padded(clip_tokens(some, config.max_positions))),)

    (found,) = _in_batches(features, [(config.projection,)], prompts, what)
    return found


def _in_batches(
    encode: Callable[[Sequence[Any]], tuple[Array, ...]],
    shapes: Sequence[tuple[int, ...]],
    inputs: Sequence[Any],
    what: str,
) -> list[Float32[np.ndarray, "..."]]:
    """The arrays, one of each shape, that `encode` makes of each input, scaled to length 1 along the last
    axis.
    """
    found = [np.empty((len(inputs), *shape), np.float32) for shape in shapes]
    batches, one = range(0, len(inputs), BATCH), len(inputs) <= BATCH
    for start in tqdm(batches, f"encoding {what}", leave=False, dynamic_ncols=True, disable=one):
        some = inputs[start : start + BATCH]
        for array, part in zip(found, encode(some), strict=True):
            array[start : start + len(some)] = np.asarray(part)[: len(some)]
    return [array / np.linalg.norm(array, axis=-1, keepdims=True) for array in found]


def _crops(encoder: Encoder, pictures: Pictures) -> np.ndarray:
    return _padded(np.stack([crop_picture(encoder.config, picture) for picture in pictures]))


def _padded(batch: np.ndarray) -> np.ndarray:
    """The batch with zeros up to BATCH samples, so that one shape is compiled."""
    return np.pad(batch, ((0, BATCH - len(batch)), *[(0, 0)] * (batch.ndim - 1)))


@cache
def _features() -> Callable[..., Any]:
    options = EIGEN_PRODUCTS.get(jax.default_backend())
    return jax.jit(_forward, static_argnames=("config", "cells"), compiler_options=options)


def _forward(
    config: ViTConfig | CLIPConfig,
    params: Params,
    inputs: UInt8[Array, "b h w 3"] | Int[Array, "b l"],
    cells: bool = False,
) -> Any:
    if isinstance(config, ViTConfig):
        inputs = normalise(inputs, config.mean, config.std)
    # Without the accelerators' faster, rounded products: a score must not depend on where it is computed.
    with jax.default_matmul_precision("float32"):
        return apply(config, {"params": params}, inputs, *([cells] if cells else []))
