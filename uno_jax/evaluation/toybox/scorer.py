"""Pictures -> features of EfficientNet-Lite0, a network that neither this project nor its data trained."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image
from tqdm import tqdm

from uno_jax.networks.efficientnet import EfficientNetConfig
from uno_jax.networks.registry import apply
from uno_jax.support.trees import Params
from uno_jax.weights.checkpoint import read_config, restore_network

NAME = "efficientnet_lite0"  # begins the name of every score
KIND = "efficientnet"
BATCH = 16
Pictures = Sequence[UInt8[np.ndarray, "_ _ 3"]]  # each of its own size


class Scorer(NamedTuple):
    """EfficientNet-Lite0 in memory."""

    config: EfficientNetConfig
    params: Params


class Features(NamedTuple):
    """`content` is the input of the network's classifier, `border` an earlier map's mean along its rim."""

    content: Float[np.ndarray, "n f"]
    border: Float[np.ndarray, "n g"]


def check_scorer(directory: Path) -> None:
    """Raises FileNotFoundError or CheckpointError unless `directory` holds the converted network."""
    if not (directory / KIND).is_dir():
        raise FileNotFoundError(
            f"no scorer weights {directory / KIND}: make them with uno-convert efficientnet --dst {directory}"
        )
    read_config(directory / KIND, KIND)


def load_scorer(directory: Path) -> Scorer:
    """The network that `uno-convert efficientnet --dst DIRECTORY` wrote."""
    check_scorer(directory)
    config, params = restore_network(directory / KIND, KIND)
    return Scorer(cast(EfficientNetConfig, config), params)


def features(scorer: Scorer, pictures: Pictures, what: str = "pictures") -> Features:
    """Features of pictures of any sizes; `what` names them on the progress bar."""
    parts = []
    for count, batch in _batches(scorer, pictures, what):
        found = _features(scorer.config, scorer.params, batch)
        parts.append([np.asarray(part)[:count] for part in found])
    return Features(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def cell_cosines(
    scorer: Scorer, pictures: Pictures, own: Float[np.ndarray, "n f"], what: str = "pictures"
) -> Float[np.ndarray, "n h w"]:
    """The cosine between every cell of a picture's last map, of which `content` is the mean, and that
    picture's features in `own`.
    """
    own = own / np.linalg.norm(own, axis=-1, keepdims=True)
    parts: list[np.ndarray] = []
    for count, batch in _batches(scorer, pictures, what):
        cells = np.asarray(_cells(scorer.config, scorer.params, batch))[:count]
        start = sum(map(len, parts))
        parts.append(np.einsum("nhwf,nf->nhw", cells, own[start : start + count]))
    return np.concatenate(parts)


def _batches(
    scorer: Scorer, pictures: Pictures, what: str
) -> Iterator[tuple[int, Float[np.ndarray, "b h w 3"]]]:
    """Batches of prepared pictures, and how many of each are pictures: it is filled up, so that one shape is
    compiled.
    """
    side = scorer.config.resolution
    for start in tqdm(range(0, len(pictures), BATCH), f"scoring {what}", leave=False, dynamic_ncols=True):
        batch = np.stack([preprocess(picture, side) for picture in pictures[start : start + BATCH]])
        yield len(batch), np.pad(batch, ((0, BATCH - len(batch)), (0, 0), (0, 0), (0, 0)))


def preprocess(picture: UInt8[np.ndarray, "h w 3"], side: int) -> Float[np.ndarray, "side side 3"]:
    """The published preprocessing of the Lite networks: bicubic, from -127/128 to 1."""
    resized = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)
    return (np.asarray(resized, np.float32) - 127) / 128


@partial(jax.jit, static_argnames="config")
def _features(
    config: EfficientNetConfig, params: Params, prepared: Float[Array, "b h w 3"]
) -> tuple[Float[Array, "b f"], Float[Array, "b g"]]:
    middle, last = apply(config, {"params": params}, prepared)
    rim = np.ones(middle.shape[1:3])
    rim[1:-1, 1:-1] = 0
    return last.mean((1, 2)), jnp.einsum("bhwc,hw->bc", middle, rim / rim.sum())


@partial(jax.jit, static_argnames="config")
def _cells(
    config: EfficientNetConfig, params: Params, prepared: Float[Array, "b h w 3"]
) -> Float[Array, "b h2 w2 f"]:
    """The last map, each cell of length 1."""
    _, last = apply(config, {"params": params}, prepared)
    cells: Array = last / jnp.maximum(jnp.linalg.norm(last, axis=-1, keepdims=True), 1e-12)
    return cells
