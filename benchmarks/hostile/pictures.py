"""Pictures that are none, too large, damaged, or not files at all, at every place that reads pictures."""

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from PIL import Image

from benchmarks.hostile.case import Case, spoilt

Make = Callable[[Path], object]


def cases() -> Iterator[Case]:
    for name, make in pictures().items():
        own = partial(_in_place_of, make)
        yield spoilt("sample", f"--ref {name}", "--ref", "bad.png", make=partial(_at, make, "bad.png"))
        yield spoilt("check", f"{name} in a list", make=own("0.png"), codes=(0, 1, 2))
        yield spoilt("pack", f"{name} in a list", "--max-bad-share=1", make=own("0.png"))
        yield spoilt("import", f"{name} in a list", make=own("0.png"))
        yield spoilt("judge", name, make=own("drawn/0_0.png"))
        yield spoilt("single", f"{name} among the photos", make=partial(_at, make, "photos/dog/01.jpg"))
    for name in (
        "broken EXIF",
        "EPS",
        "truncated JPEG",
        "a bomb",
        "a pipe",
        "a folder",
        "orientation of text",
    ):
        own = partial(_in_place_of, pictures()[name])
        yield spoilt("sample", f"--left {name}", "--left", "bad.png", make=own("bad.png"))
        yield spoilt("jobs", f"{name} in a list", make=own("0.png"))
        yield spoilt("train", f"{name} in a list", "--data.max-bad-share=0.5", make=own("0.png"))
        yield spoilt("encode", f"{name} in a list", "--data.max-bad-share=0.5", make=own("0.png"))
        scored = partial(_at, pictures()[name], "0_0.png")
        yield spoilt("single", f"{name} scored", "--score-only", ".", make=scored)
        yield spoilt("report", f"{name} as picture", make=own("evaluated/0_0.png"), codes=(0,))
    every = partial(_every, pictures()["truncated PNG"])
    yield spoilt("pack", "no picture can be read", make=every, codes=(2,), check=nothing_new)
    yield spoilt("encode", "no picture can be read", make=every, codes=(2,))
    yield spoilt("train", "no picture can be read", make=every, codes=(2,))
    yield spoilt("check", "no picture can be read", make=every, codes=(1,))


def nothing_new(folder: Path) -> str:
    """A refused command leaves no output."""
    return "new was written" if (folder / "new").exists() else ""


def _at(make: Make, name: str, folder: Path) -> None:
    make(folder / name)


def _in_place_of(make: Make, name: str) -> Make:
    """A function that replaces a folder's file."""

    def replace(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return replace


def _every(make: Make, folder: Path) -> None:
    for path in folder.glob("*.png"):
        make(path)


def saved(form: str, size: tuple[int, int] = (48, 48), mode: str = "RGB", **how: object) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size, 90).save(stream, form, **how)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def oriented(value: bytes, kind: int) -> bytes:
    """A JPEG whose EXIF orientation has another type or value."""
    entry = struct.pack("<HHHI4sI", 1, 0x112, kind, 1, value, 0)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + entry
    return saved("JPEG", exif=exif)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(written) (w) file closefile\n{ } loop\n"


def pictures() -> dict[str, Make]:
    """Name -> a function that makes the picture at a path."""
    jpeg, whole = saved("JPEG"), saved("PNG")
    made: dict[str, bytes] = {
        "EPS": EPS,
        "broken EXIF": saved("JPEG", exif=b"Exif\0\0junk"),
        "orientation of text": oriented(b"abc\0", 2),
        "orientation 9": oriented(b"\x09\0\0\0", 3),
        "1x100000": saved("PNG", (1, 100_000)),
        "32768x1": saved("PNG", (32_768, 1)),
        "a bomb": png(60_000, 60_000, chunk(b"IDAT", zlib.compress(b"\0" * 1_000_000))),
        "a bomb of text": png(8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * (200 << 20)))),
        "truncated PNG": saved("PNG")[:60],
        "truncated JPEG": jpeg[: len(jpeg) // 2],
        "JPEG without its end": jpeg[:-20],
        "a wrong checksum": whole[:40] + bytes([whole[40] ^ 1]) + whole[41:],
        "AVIF damage": damaged(saved("AVIF")),
        "WebP damage": damaged(saved("WEBP")),
        "GIF damage": damaged(saved("GIF", mode="L")),
        "TIFF damage": damaged(saved("TIFF")),
        "DDS damage": b"DDS |\0\0\0" + b"\x07" * 120,
        "BLP damage": b"BLP2\x01\0\0\0" + b"\x03" * 200,
        "PSD damage": b"8BPS\0\x01" + b"\0" * 20 + b"\xff" * 60,
        "PPM of 9 digits": b"P6 999999999 999999999 255\n",
        "no bytes": b"",
        "text": b"a picture of a dog\n",
        "zeros": bytes(10_000),
        "CMYK": saved("JPEG", mode="CMYK"),
        "16 bits": saved("PNG", mode="I;16"),
        "1x1": saved("PNG", (1, 1)),
    }
    files = {name: partial(_write, content) for name, content in made.items()}
    return {
        **files,
        "a pipe": os.mkfifo,
        "/dev/zero": partial(_link, "/dev/zero"),
        "a loop of links": lambda path: path.symlink_to(path.name),
        "a folder": Path.mkdir,
        "a broken link": partial(_link, "nowhere"),
    }


def damaged(content: bytes) -> bytes:
    """Every seventh byte of the second half changed."""
    changed = bytearray(content)
    for at in range(len(changed) // 2, len(changed), 7):
        changed[at] ^= 0x5A
    return bytes(changed)


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _link(target: str, path: Path) -> None:
    path.symlink_to(target)
