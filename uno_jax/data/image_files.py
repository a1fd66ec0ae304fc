"""Paths, local or of any file system that fsspec knows (gs://…) -> pictures.

A path that ends in .tar#OFFSET+BYTES names a part of a tar shard, as `uno-data pack` writes it.
"""

import io
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from jaxtyping import Float32
from PIL import Image

from uno_jax.support import images
from uno_jax.support.images import ImageError
from uno_jax.support.picture_file import MAX_BYTES
from uno_jax.support.regular_file import check_regular_file

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
    part = IN_SHARD.fullmatch(path)
    try:
        local = _regular(fs, name)
        length = int(part[3]) if part else local.stat().st_size if local else 0
        if length > MAX_BYTES:
            raise ImageError(f"{path}: {length >> 20} MiB are more than {MAX_BYTES >> 20}, too large a file")
        if not part:
            return bytes(fs.cat_file(name))
        start = int(part[2])
        return bytes(fs.cat_file(name, start, start + length))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such picture{slash_hint(path)}") from error


def refuse_irregular(path: str) -> Path | None:
    """The path of a local file, None for one elsewhere.

    Raises FileNotFoundError or OSError for a local one that is not a regular file.
    """
    return _regular(*file_system(path))


def _regular(fs: Any, name: str) -> Path | None:
    if not isinstance(fs, LocalFileSystem):
        return None
    check_regular_file(name)
    return Path(name)


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
    width, height = picture_size(path)
    return height / width


def picture_size(path: str) -> tuple[int, int]:
    """The upright (width, height) by the file's header; raises like `read_picture`."""
    size = _header_size(path)
    _refuse_thin(path, *size)
    return size


def _header_size(path: str) -> tuple[int, int]:
    fs, name = file_system(path)
    if IN_SHARD.fullmatch(path):
        return images.read_size(io.BytesIO(read_bytes(path)), path)
    try:
        if isinstance(fs, LocalFileSystem):
            return images.read_size(name, path)
        with fs.open(name) as file:
            return images.read_size(file, path)
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
