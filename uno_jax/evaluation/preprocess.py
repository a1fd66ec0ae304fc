"""Pictures -> the pixels that a vision transformer was trained with, as transformers' processors make them.

They are resized by Pillow's bicubic filter, which is antialiased and rounds to 8 bits, cropped, scaled to
[0, 1] and normalised channel by channel. The numbers are the network's (`ViTConfig`).
"""

from typing import TypeVar

import numpy as np
from jaxtyping import Array, UInt8
from PIL import Image

from uno_jax.networks.vit import ViTConfig

MAX_RATIO = 64
Pixels = TypeVar("Pixels", np.ndarray, Array)


def crop_picture(config: ViTConfig, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "side side 3"]:
    """The part of a picture that the network sees, `config.resolution` pixels a side. `normalise` is left for
    where the network runs, which is cheaper.
    """
    side = config.resolution
    if not config.shortest_side:
        return resize(picture, side, side)
    picture = bounded(picture)
    height, width = picture.shape[:2]
    return centre_crop(resize(picture, *resized_size(height, width, config.shortest_side)), side)


def bounded(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """A picture thinner than 1:MAX_RATIO cut to that around its centre, which is all that is seen of it; at
    full length it would be resized to gigabytes.
    """
    longest = MAX_RATIO * min(picture.shape[:2])
    top, left = (max(0, length - longest) // 2 for length in picture.shape[:2])
    return picture[top : top + longest, left : left + longest]


def resized_size(height: int, width: int, shortest: int) -> tuple[int, int]:
    """(height, width) with a shortest side of `shortest`; the other side's fraction is cut off."""
    if height < width:
        return shortest, int(shortest * width / height)
    return int(shortest * height / width), shortest


def resize(picture: UInt8[np.ndarray, "h w 3"], height: int, width: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The picture at another size, by Pillow's bicubic filter."""
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def centre_crop(picture: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "side side 3"]:
    """The central square; of an odd margin the smaller half is cut off at the top and the left."""
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def normalise(pixels: Pixels, mean: tuple[float, ...], std: tuple[float, ...]) -> Pixels:
    """Bytes (..., 3), of numpy or jax, to normalised float32."""
    return (pixels.astype(np.float32) / 255 - np.array(mean, np.float32)) / np.array(std, np.float32)
