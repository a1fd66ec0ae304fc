"""Image files -> RGB pictures -> prepared references, bucket sizes, arrays; and arrays back to pictures.

Reference preparation, buckets and rounding are those of UNO (tests/golden/preprocess.json records them).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32
from PIL import Image

from uno_jax.support.picture_file import (
    MAX_PIXELS,
    ImageError,
    PictureSource,
    open_picture,
    picture_errors,
)
from uno_jax.support.picture_metadata import orientation

__all__ = ["MAX_PIXELS", "ImageError", "read_image", "read_rgba", "read_size", "to_rgb"]

SUFFIXES = frozenset({".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""How names of pictures end in folders that are searched for them."""
# The autoencoder divides by 8, packing by 2: sides are multiples of 16 pixels.
MULTIPLE = 16
# (height, width) at resolution 512.
BUCKETS_512 = (
    (256, 768),
    (320, 768),
    (320, 704),
    (384, 640),
    (448, 576),
    (512, 512),
    (576, 448),
    (640, 384),
    (704, 320),
    (768, 320),
    (768, 256),
)


# How to make upright what is stored at EXIF's orientations.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(source: PictureSource, name: str = "") -> Image.Image:
    """Reads a picture, or the first frame of an animation, as upright 8-bit RGB (see `to_rgb`).

    `name` identifies a stream in error messages.

    Raises FileNotFoundError, or ImageError for a file that is not a picture, is truncated, is larger than the
    bounds of `open_picture` (checked before decoding) or has pixels that do not map to 8 bits.
    """
    with open_picture(source, name) as (image, turn):
        return _rgb(upright(image, turn))


def read_grey(source: PictureSource, name: str = "") -> Image.Image:
    """Reads a mask as upright 8-bit grey; raises as `read_image`, and ImageError where it is transparent: on
    white, and on black, it would be another one.
    """
    with open_picture(source, name) as (image, turn):
        image = upright(image, turn)
        if image.has_transparency_data and (np.asarray(image.convert("RGBA"))[..., 3] < 255).any():
            raise ImageError("a mask must be opaque, white and black; save it without transparency")
        return _rgb(image).convert("L")


def read_rgba(source: PictureSource, name: str = "") -> Image.Image:
    """Reads a cut-out picture as upright 8-bit RGBA; raises as `read_image`."""
    with open_picture(source, name) as (image, turn):
        return upright(image, turn).convert("RGBA")


def read_size(source: PictureSource, name: str = "") -> tuple[int, int]:
    """The upright (width, height), that of `read_image`, from the picture's header, without decoding.

    Raises as `read_image`.
    """
    with open_picture(source, name, header=True) as (image, turn):
        return image.size[::-1] if turn >= 5 else image.size


def to_rgb(image: Image.Image) -> Image.Image:
    """Any picture as upright 8-bit RGB: EXIF rotation applied, alpha over white, 16-bit grey scaled.

    A picture that needs none of this is returned without a copy.

    Raises ImageError for floating-point pixels, for grey values beyond 16 bits and for a picture that was
    opened and cannot be decoded.
    """
    with picture_errors(str(getattr(image, "filename", "")) or "the picture"):
        image.load()  # PNG has metadata behind its pixels; TIFF is turned here
        exif, xmp = image.info.get("exif", b""), image.info.get("xmp", b"")
        known = isinstance(exif, bytes) and isinstance(xmp, bytes)
        return _rgb(upright(image, orientation(exif, xmp) if known else 1))


def upright(image: Image.Image, turn: int) -> Image.Image:
    """A picture stored at an orientation of EXIF, decoded and turned."""
    image.load()  # before its file is closed
    if turn == 1:
        return image
    image = image.transpose(TURNS[turn])
    for key in ("exif", "xmp"):  # not to be turned once more
        image.info.pop(key, None)
    return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _grey_16_to_8(image)
    elif image.mode == "F":
        raise ImageError("floating-point pixels have no known range; save the picture with 8 or 16 bits")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey_16_to_8(image: Image.Image) -> Image.Image:
    grey = np.asarray(image).astype(np.int64)
    if grey.min() < 0 or grey.max() > 65535:
        raise ImageError(f"grey values from {grey.min()} to {grey.max()} do not fit 16 bits")
    return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))


def prepare_reference(image: Image.Image, longest_side: int, name: str = "the reference") -> Image.Image:
    """Scales the longest side to `longest_side` pixels (LANCZOS) and crops the centre to multiples of 16, as
    UNO does.

    Raises ImageError, naming the picture by `name`, if a side would become 0 (where UNO fails later, with an
    obscure error).
    """
    image = to_rgb(image)
    if image.width >= image.height:
        width, height = longest_side, int(longest_side / image.width * image.height)
    else:
        width, height = int(longest_side / image.height * image.width), longest_side
    cut_width, cut_height = width // MULTIPLE * MULTIPLE, height // MULTIPLE * MULTIPLE
    if not cut_width or not cut_height:
        raise ImageError(
            f"{name}: {image.width}x{image.height} becomes {width}x{height} at longest side {longest_side}, "
            f"thinner than {MULTIPLE} pixels; crop it, or use a larger reference size"
        )
    left, top = (width - cut_width) // 2, (height - cut_height) // 2
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    return image.crop((left, top, left + cut_width, top + cut_height))


def bucket_size(width: int, height: int, resolution: int) -> tuple[int, int]:
    """The (height, width) of the training bucket for one picture (see `batch_bucket_size`)."""
    return batch_bucket_size([(width, height)], resolution)


def batch_bucket_size(sizes: Sequence[tuple[int, int]], resolution: int) -> tuple[int, int]:
    """The bucket (see `ratio_bucket_size`) of a batch of (width, height) sizes: by the mean of
    height/width, not of width/height, as in UNO.
    """
    return ratio_bucket_size(float(np.mean([height / width for width, height in sizes])), resolution)


def ratio_bucket_size(ratio: float, resolution: int) -> tuple[int, int]:
    """The (height, width) of the bucket nearest to a ratio height/width; the first one of a tie.

    Raises ValueError for a resolution below 32.
    """
    return min(bucket_sizes(resolution), key=lambda bucket: abs(bucket[0] / bucket[1] - ratio))


def bucket_sizes(resolution: int) -> list[tuple[int, int]]:
    """The (height, width) of every training bucket.

    Raises ValueError for a resolution below 32.
    """
    if resolution < 32:
        raise ValueError(
            f"resolution {resolution}: buckets need at least 32, for sides of {MULTIPLE} pixels or more"
        )
    return [
        (h * resolution // 512 // MULTIPLE * MULTIPLE, w * resolution // 512 // MULTIPLE * MULTIPLE)
        for h, w in BUCKETS_512
    ]


def to_array(image: Image.Image) -> Float32[np.ndarray, "h w 3"]:
    """A picture as pixels from -1 (black) to 1 (white)."""
    array = np.array(to_rgb(image), np.float32)
    array /= 127.5
    array -= 1
    return array


def to_image(array: Float32[np.ndarray, "h w 3"]) -> Image.Image:
    """The picture of pixels in [-1, 1]: values outside are clamped and fractions truncated, as in UNO."""
    clamped = np.clip(np.asarray(array, np.float32), -1, 1)
    return Image.fromarray((127.5 * (clamped + 1)).astype(np.uint8))
