"""Paths, local or of any file system that fsspec knows (gs://…) -> pictures.

A path that ends in .tar#OFFSET+BYTES names a part of a tar shard, as `uno-data pack` writes it.
"""

import io
import re
from functools import lru_cache
from typing import IO, Any, cast

import fsspec
import numpy as np
from fsspec.core import url_to_fs
from jaxtyping import Float32
from PIL import Image

from uno_jax.support import images
from uno_jax.support.images import ImageError

IN_SHARD = re.compile(r"(.+\.tar)#(\d+)\+(\d+)")
MAX_RATIO = 16
READ_ERRORS = (OSError, ImageError)


class UnknownFileSystemError(OSError):
    """A URL of a file system that fsspec does not know, or whose package is missing."""


def join_path(folder: str, path: str) -> str:
    """`path` within `folder`, unless it is absolute or a URL."""
    if not folder or path.startswith("/") or "://" in path:
        return path
    return f"{folder.rstrip('/')}/{path}"


def parent(path: str) -> str:
    """The folder of a path or URL; "" for a bare name."""
    return path.rpartition("/")[0]


def exists(path: str) -> bool:
    try:
        fs, name = file_system(path)
    except UnknownFileSystemError:
        return False
    return bool(fs.isfile(name))


def slash_hint(path: str) -> str:
    """What to add where there is no file at a path that was written on Windows."""
    return " (write folders with /, not with backslashes)" if "\\" in path else ""


def read_bytes(path: str) -> bytes:
    """The bytes of a picture's file, or of its part of a shard.

    Raises FileNotFoundError and what the file system raises.
    """
    fs, name = file_system(path)
    try:
        if not (part := IN_SHARD.fullmatch(path)):
            return bytes(fs.cat_file(name))
        start, length = int(part[2]), int(part[3])
        return bytes(fs.cat_file(name, start, start + length))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such picture{slash_hint(path)}") from error


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


@lru_cache(maxsize=100_000)
def picture_ratio(path: str) -> float:
    """Height/width by the file's header; raises like `read_picture`."""
    with _open(path) as file:
        width, height = images.read_size(file, path)
    _refuse_thin(path, width, height)
    return height / width


def _open(path: str) -> io.BytesIO | IO[bytes]:
    if IN_SHARD.fullmatch(path):
        return io.BytesIO(read_bytes(path))
    try:
        return cast(IO[bytes], fsspec.open(path, "rb").open())
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such picture{slash_hint(path)}") from error


def file_system(path: str) -> tuple[Any, str]:
    """The file system of a path or URL, and the name there.

    Raises UnknownFileSystemError.
    """
    try:
        fs, name = url_to_fs(_file(path))
        return fs, name
    except (ValueError, ImportError) as error:
        raise UnknownFileSystemError(f"{path}: {error}") from None


def _file(path: str) -> str:
    part = IN_SHARD.fullmatch(path)
    return part[1] if part else path


def _refuse_thin(path: str, width: int, height: int) -> None:
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ImageError(f"{path}: {width}x{height} is thinner than 1:{MAX_RATIO}; crop it")
