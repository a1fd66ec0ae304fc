"""The one door to Pillow: a file, known to be a picture within bounds, is opened; all that goes wrong on the
way is an ImageError that names it.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from os import PathLike
from typing import IO

from PIL import Image, UnidentifiedImageError

from uno_jax.support.errors import FileKindError
from uno_jax.support.picture_metadata import orientation, split
from uno_jax.support.regular_file import check_regular_file
from uno_jax.support.words import one_line

PictureSource = str | PathLike[str] | io.BytesIO | IO[bytes]

# Pillow reads many more, some by starting programs (EPS), some with decoders that hardly anyone uses. MPO is
# opened as the JPEG that it begins with.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "PPM")
MAX_PIXELS = 50_000_000
MAX_SIDE = 1 << 15
MAX_BYTES = 1 << 29
TOO_LARGE = f"is more than {MAX_PIXELS // 1_000_000} megapixels; scale the picture down first"

# Pillow warns of sizes, whose bounds here are stricter, and of odd values beside the pixels, which do not
# count.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


class ImageError(ValueError):
    """A picture cannot be used; the message names it and says why."""


@contextlib.contextmanager
def open_picture(
    source: PictureSource, name: str = "", header: bool = False
) -> Iterator[tuple[Image.Image, int]]:
    """A picture that is not decoded yet, and its `orientation`; with `header` only its size can be asked.

    Raises FileNotFoundError, or ImageError for anything but a regular file with a picture of FORMATS, with at
    most MAX_PIXELS, MAX_SIDE a side and MAX_BYTES; also for what goes wrong in the body.
    """
    with picture_errors(name or str(source)), _stream(source) as file:
        parts = split(file, header)
        with Image.open(parts.pixels, formats=FORMATS) as image:
            refuse_large(*image.size)
            # WebP's and AVIF's metadata come from their decoders, which do not parse them.
            exif, xmp = image.info.get("exif", b""), image.info.get("xmp", b"")
            yield image, orientation(parts.exif or exif, parts.xmp or xmp)


def refuse_large(width: int, height: int) -> None:
    """Raises ImageError for a picture beyond MAX_PIXELS or MAX_SIDE, or without pixels."""
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width}x{height} {TOO_LARGE}")
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"{width}x{height} has a side of more than {MAX_SIDE} pixels; crop it")
    if min(width, height) < 1:
        raise ImageError(f"{width}x{height} has no pixels")


@contextlib.contextmanager
def _stream(source: PictureSource) -> Iterator[IO[bytes]]:
    if isinstance(source, str | PathLike):
        check_regular_file(source)
        with open(source, "rb") as file:
            if (size := os.fstat(file.fileno()).st_size) > MAX_BYTES:
                raise ImageError(f"{size / 2**20:.0f} MiB are more than {MAX_BYTES >> 20}, too large a file")
            yield file
    else:
        yield source


@contextlib.contextmanager
def picture_errors(name: str) -> Iterator[None]:
    """Turns whatever Pillow's decoders raise into an ImageError that names the picture.

    FileNotFoundError stays one.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{name}: no such picture") from error
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    except FileKindError as error:
        raise ImageError(str(error).replace("expected a file", "expected a picture")) from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: {TOO_LARGE}") from error
    except UnidentifiedImageError as error:
        formats = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise ImageError(f"{name}: not a picture in {formats}, or its header is damaged") from error
    except Exception as error:  # a decoder may raise anything
        reason = one_line(error)
        if isinstance(error, OSError) and error.strerror:
            raise ImageError(f"{name}: cannot be read: {error.strerror}") from error
        raise ImageError(f"{name}: cannot be read, truncated or damaged ({reason})") from error
