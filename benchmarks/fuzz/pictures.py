"""Whole pictures of every format, with metadata of every kind, damaged and read.

    python -m benchmarks.fuzz.pictures --reads 100000
    python -m benchmarks.fuzz.pictures --minutes 15 --seed 7

Prints a table of what became of them, and exits 1 where it is not what it should be.
"""

import io
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tyro
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tqdm import tqdm

from benchmarks.fuzz.byte_mutations import mutate
from uno_jax.support.images import ImageError, read_image, read_size

XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
PHOTO = Path(__file__).parents[2] / "tests" / "assets" / "photos" / "coffee.jpg"


@dataclass(frozen=True)
class Arguments:
    """Reads damaged pictures and prints a table of what became of them."""

    reads: int = 1_000_000_000
    """Number of damaged files."""
    minutes: float = 15.0
    """Minutes to go on at most."""
    seed: int = 0
    """Seed of the damages."""


@dataclass
class Outcome:
    """Counts for one format; `other` maps the exception and its place to how often it came."""

    good: int = 0
    refused: int = 0
    sizes_differ: int = 0
    other: Counter[str] = field(default_factory=Counter)

    @property
    def reads(self) -> int:
        return self.good + self.refused + self.other.total()


def fuzz_pictures(reads: int, seconds: float, seed: int) -> dict[str, Outcome]:
    """Reads damaged pictures, format by format in turn, until either limit is reached."""
    rng = np.random.default_rng(seed)
    whole = whole_pictures()
    outcomes = {name: Outcome() for name in whole}
    names, start = list(whole), time.monotonic()
    for number in tqdm(range(reads), unit="read", dynamic_ncols=True):
        if time.monotonic() - start > seconds:
            break
        files = whole[names[number % len(names)]]
        data = mutate(rng, files[rng.integers(len(files))], files)
        read_once(outcomes[names[number % len(names)]], data)
    return outcomes


def read_once(outcome: Outcome, data: bytes, again: bool = False) -> None:
    """Counts what becomes of one file; other exceptions are raised `again`."""
    try:
        size = read_image(io.BytesIO(data), "damaged").size
    except ImageError:
        outcome.refused += 1
        return
    except Exception as error:
        if again:
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        outcome.other[f"{type(error).__name__} {Path(place.filename).name}:{place.lineno}"] += 1
        return
    outcome.good += 1
    try:
        outcome.sizes_differ += size != read_size(io.BytesIO(data), "damaged")
    except Exception:  # also a difference
        outcome.sizes_differ += 1


def whole_pictures() -> dict[str, list[bytes]]:
    """A few small files of each format, that differ in mode, compression and metadata."""
    with Image.open(PHOTO) as photo:
        rgb = photo.convert("RGB").resize((40, 24))
    palette, alpha = rgb.convert("P", palette=Image.Palette.ADAPTIVE), rgb.copy()
    alpha.putalpha(rgb.convert("L"))
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x011A: 72.0, 0x0132: "2020:01:01 00:00:00"})
    text = PngInfo()
    text.add_text("note", "a" * 50, zip=True)
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    late = PngInfo()
    late.add(b"eXIf", exif.tobytes()[6:], after_idat=True)
    deep = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    return {
        "PNG": [
            *(saved(rgb, "PNG", exif=exif), saved(palette, "PNG", transparency=3, pnginfo=text)),
            *(saved(alpha, "PNG", pnginfo=late), saved(deep, "PNG"), saved(rgb, "PNG", frames=True)),
        ],
        "JPEG": [
            *(saved(rgb, "JPEG", exif=exif, comment="c"), saved(rgb, "JPEG", progressive=True, xmp=XMP)),
            *(saved(rgb.convert("CMYK"), "JPEG"), saved(rgb.convert("L"), "JPEG", icc_profile=b"p" * 128)),
            saved(rgb, "MPO", frames=True),
        ],
        "WebP": [
            *(saved(rgb, "WEBP", exif=exif), saved(alpha, "WEBP", lossless=True, xmp=XMP)),
            saved(rgb, "WEBP", frames=True),
        ],
        "AVIF": [
            saved(rgb, "AVIF", exif=exif),
            saved(alpha, "AVIF", xmp=XMP),
            saved(rgb, "AVIF", frames=True),
        ],
        "GIF": [
            saved(palette, "GIF", comment=b"c", transparency=3),
            saved(rgb, "GIF", interlace=1, frames=True),
        ],
        "TIFF": [
            *(saved(rgb, "TIFF", exif=exif), saved(palette, "TIFF", compression="tiff_lzw")),
            *(saved(rgb, "TIFF", compression="jpeg"), saved(deep, "TIFF", compression="tiff_adobe_deflate")),
            *(
                saved(rgb.convert("1"), "TIFF", compression="group4"),
                saved(rgb, "TIFF", big_tiff=True, frames=True),
            ),
        ],
        "BMP": [saved(image, "BMP") for image in (rgb, palette, rgb.convert("L"), rgb.convert("1"), alpha)],
        "PPM": [saved(image, "PPM") for image in (rgb, rgb.convert("L"), rgb.convert("1"), deep)],
    }


def saved(image: Image.Image, form: str, frames: bool = False, **options: object) -> bytes:
    """A picture's file; with `frames` an animation of it. A saved picture keeps the options: save a copy."""
    if frames:
        options |= {"save_all": True, "append_images": [image.rotate(180)]}
    image.copy().save(file := io.BytesIO(), form, **options)
    return file.getvalue()


def table(outcomes: dict[str, Outcome]) -> str:
    """The outcomes in Markdown."""
    lines = [
        "| format | reads | good | ImageError | other exceptions | sizes that differ |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, each in outcomes.items():
        lines.append(
            f"| {name} | {each.reads:,} | {each.good:,} | {each.refused:,} | {each.other.total()} | "
            f"{each.sizes_differ} |"
        )
    places = Counter({(name, place): n for name, each in outcomes.items() for place, n in each.other.items()})
    return "\n".join(lines + [f"{name}: {place} ({count})" for (name, place), count in places.most_common()])


def main(arguments: Arguments) -> None:
    """Prints the table."""
    outcomes = fuzz_pictures(arguments.reads, 60 * arguments.minutes, arguments.seed)
    print(table(outcomes))
    sys.exit(any(each.other or each.sizes_differ for each in outcomes.values()))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
