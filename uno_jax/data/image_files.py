"""Paths, local or of any file system that fsspec knows (gs://…) -> pictures.

A path that ends in .tar#OFFSET+BYTES names a part of a tar shard, as `uno-data pack` writes it.
"""

import io
import os
import re
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from fsspec.implementations.local import LocalFileSystem
from jaxtyping import Float32, UInt8
from PIL import Image

from uno_jax.data.locations import is_remote
from uno_jax.support import images
from uno_jax.support.images import ImageError
from uno_jax.support.picture_file import MAX_BYTES
from uno_jax.support.regular_file import check_regular_file

IN_SHARD = re.compile(r"(.+\.tar)#(\d+)\+(\d+)")
MAX_RATIO = 16
MASK_CELL = 8  # pixels of a side; tokens have 8 or 16
SAME_SHAPE = 0.05  # how far heights/widths of masks and targets may be apart, for masks that were scaled
READ_ERRORS = (OSError, ImageError)


def join_path(folder: str, path: str) -> str:
    """`path` within `folder`, unless it is absolute or a URL."""
    if not folder or path.startswith("/") or "://" in path:
        return path
    return f"{folder.rstrip('/')}/{path}"


def parent(path: str) -> str:
    """The folder of a path or URL; "" for a bare name."""
    return path.rpartition("/")[0]


def exists(path: str) -> bool:
    """Whether there is a file, or for a part of a shard the shard."""
    file = _file(path)
    try:
        if is_remote(file):
            from uno_jax.data.remote_files import at

            return at(file, lambda fs, name: bool(fs.isfile(name)))
        return os.path.isfile(_local(file))
    except (OSError, ValueError):
        return False


def slash_hint(path: str) -> str:
    """What to add where there is no file at a path that was written on Windows."""
    return " (write folders with /, not with backslashes)" if "\\" in path else ""


def read_bytes(path: str) -> bytes:
    """The bytes of a picture's file, or of its part of a shard.

    Raises FileNotFoundError, or OSError or ImageError naming the picture.
    """
    part, file = IN_SHARD.fullmatch(path), _file(path)
    start, length = (int(part[2]), int(part[3])) if part else (0, None)
    try:
        _refuse_long(path, length or 0)
        if is_remote(file):
            from uno_jax.data.remote_files import read_remote

            return read_remote(file, start, length)
        local = _regular(file)
        _refuse_long(path, 0 if part else local.stat().st_size)
        with local.open("rb") as opened:
            opened.seek(start)
            return opened.read(MAX_BYTES if length is None else length)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such picture{slash_hint(path)}") from error


def _refuse_long(path: str, length: int) -> None:
    if length > MAX_BYTES:
        raise ImageError(f"{path}: {length >> 20} MiB are more than {MAX_BYTES >> 20}, too large a file")


def refuse_irregular(path: str) -> Path | None:
    """The path of a local file, None for one elsewhere.

    Raises FileNotFoundError or OSError for a local one that is not a regular file.
    """
    return None if is_remote(_file(path)) else _regular(_file(path))


def _regular(path: str) -> Path:
    check_regular_file(_local(path))
    return Path(_local(path))


def _local(path: str) -> str:
    return str(LocalFileSystem._strip_protocol(path))


def read_picture(path: str) -> Image.Image:
    """The upright RGB picture.

    Raises READ_ERRORS naming the picture, also when it is too thin.
    """
    picture = images.read_image(io.BytesIO(read_bytes(path)), path)
    _refuse_thin(path, *picture.size)
    return picture


def bucket_array(path: str, size: tuple[int, int]) -> Float32[np.ndarray, "h w 3"]:
    """The picture resized to a bucket (height, width), in [-1, 1]; raises like `read_picture`."""
    height, width = size
    return images.to_array(read_picture(path).resize((width, height), Image.Resampling.LANCZOS))


def mask_array(path: str, size: tuple[int, int], ratio: float) -> UInt8[np.ndarray, "h/8 w/8"]:
    """How white a mask is, from 0 to 255, in cells of MASK_CELL pixels of its target's bucket (height,
    width); `ratio` is the target's height/width.

    Raises like `read_picture`, and ImageError for transparency or another shape.
    """
    grey = images.read_grey(io.BytesIO(read_bytes(path)), path)
    if abs(grey.height / grey.width / ratio - 1) > SAME_SHAPE:
        target = f"its target {1 / ratio:.3g} times as wide as high"
        raise ImageError(f"{path}: the mask is {grey.width}x{grey.height}, {target}")
    height, width = (side // MASK_CELL for side in size)
    return np.asarray(grey.resize((width, height), Image.Resampling.BOX))


@lru_cache(maxsize=100_000)
def picture_ratio(path: str) -> float:
    """Height/width by the file's header; raises like `read_picture`."""
    width, height = picture_size(path)
    return height / width


def picture_size(path: str) -> tuple[int, int]:
    """The upright (width, height) by the file's header; raises like `read_picture`."""
    size = _header_size(path)
    _refuse_thin(path, *size)
    return size


def _header_size(path: str) -> tuple[int, int]:
    if IN_SHARD.fullmatch(path):
        return images.read_size(io.BytesIO(read_bytes(path)), path)
    try:
        if is_remote(path):
            from uno_jax.data.remote_files import at

            return at(path, partial(_open_size, path))
        return images.read_size(_local(path), path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such picture{slash_hint(path)}") from error


def _open_size(path: str, fs: Any, name: str) -> tuple[int, int]:
    with fs.open(name) as file:
        _refuse_long(path, getattr(file, "size", None) or 0)
        return images.read_size(file, path)


def _file(path: str) -> str:
    part = IN_SHARD.fullmatch(path)
    return part[1] if part else path


def _refuse_thin(path: str, width: int, height: int) -> None:
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ImageError(f"{path}: {width}x{height} is thinner than 1:{MAX_RATIO}; crop it")
