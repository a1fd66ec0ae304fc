"""A picture's file -> the part that its pixels are decoded from, and the metadata that turn it upright.

Pillow parses EXIF, XMP, texts, profiles and lists of further frames while it opens a file, and an unusual
value in them ends the reading. So they never reach it: `orientation` alone reads them, for that one number.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

MAX_BLOCKS = 1_000_000  # chunks or segments of one file
MAX_METADATA = 1 << 22  # bytes of one block of EXIF or XMP
PNG = b"\x89PNG\r\n\x1a\n"
FIRST_SCAN = 0xDA  # marker of JPEG
ORIENTATION, XMP = 274, 700  # tags of TIFF
# Types of TIFF's fields that hold one integer, as `struct` names them: SHORT, LONG, the signed ones, LONG8.
INTEGERS = {3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q"}
# Tags that a TIFF's pixels depend on: sizes, compression, strips and tiles, colours.
PIXEL_TAGS = {
    *(256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 280, 281, 284, 292, 293, 317, 320),
    *(322, 323, 324, 325, 332, 338, 339, 340, 341, 347, *range(512, 522), 529, 530, 531, 532),
}


class Parts(NamedTuple):
    """`pixels` is a file without metadata; `exif` a block of TIFF, `xmp` a text, each empty if absent."""

    pixels: IO[bytes]
    exif: bytes = b""
    xmp: bytes = b""


class Directory(NamedTuple):
    """The first directory of a TIFF: its entries as (tag, type, count, value or offset of the values)."""

    order: str
    big: bool
    offset: int
    entries: list[tuple[int, int, int, bytes]]


def split(file: IO[bytes], header: bool = False) -> Parts:
    """The parts of a file; of PNG and JPEG with `header` only what says the size, so that little is read.

    Formats without metadata that Pillow would parse come back whole.

    Raises ValueError for endless chunks.
    """
    file.seek(0)
    start = file.read(16)
    file.seek(0)
    if start.startswith(PNG):
        return _split_png(file, header)
    if start.startswith(b"\xff\xd8"):
        return _split_jpeg(file, header)
    if start[:2] in (b"II", b"MM"):
        return _split_tiff(file.read())
    if start[4:8] == b"ftyp":
        # AVIF's own boxes count, as its standard says: the decoder reports them as EXIF if it finds no other.
        return Parts(io.BytesIO(re.sub(rb"(?s)(infe[\2\3].{7,9})Exif", rb"\1____", file.read())))
    return Parts(file)


def orientation(exif: bytes, xmp: bytes) -> int:
    """How to turn a picture upright, 1 to 8 as in EXIF: by its EXIF, else its XMP, else 1.

    Values that are not one integer from 1 to 8 do not count, whatever else a block holds.
    """
    found = re.search(rb"tiff:Orientation(?:\s*=\s*[\"']|>)\s*([1-8])\s*[\"'<]", xmp[:MAX_METADATA])
    return _exif_orientation(exif) or (int(found[1]) if found else 1)


def png_text(file: IO[bytes], key: str) -> bytes | None:
    """The text under a key in a PNG; None for another file and where there is none."""
    file.seek(0)
    if file.read(len(PNG)) != PNG:
        return None
    for kind, length, _ in _png_chunks(file):
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            found, text = _png_text(kind, file.read(min(length, MAX_METADATA)))
            if found == key.encode("latin-1"):
                return text
    return None


def _exif_orientation(exif: bytes) -> int | None:
    directory = _directory(re.sub(b"^(Exif\0\0){1,2}", b"", exif[:MAX_METADATA]))
    if directory is None:
        return None
    for tag, kind, count, value in directory.entries:
        if tag == ORIENTATION and count == 1 and kind in INTEGERS:
            (number,) = struct.unpack_from(directory.order + INTEGERS[kind], value.ljust(8, b"\0"))
            if 1 <= number <= 8:
                return int(number)
    return None


def _directory(data: bytes) -> Directory | None:
    """None for anything but TIFF with a directory."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
    if not order or len(data) < 16:
        return None
    magic, offset = struct.unpack_from(order + "HI", data, 2)
    big = magic == 43
    if magic not in (42, 43):
        return None
    if big:
        (offset,) = struct.unpack_from(order + "Q", data, 8)
    length, entry = ("Q", "HHQ8s") if big else ("H", "HHI4s")
    first, size = offset + struct.calcsize(length), struct.calcsize(order + entry)
    if first > len(data):
        return None
    (count,) = struct.unpack_from(order + length, data, offset)
    count = min(count, (len(data) - first) // size)
    table = data[first : first + count * size]
    return Directory(order, big, offset, [*struct.iter_unpack(order + entry, table)])


def _split_tiff(data: bytes) -> Parts:
    """The first frame, with the tags that its pixels depend on and no other."""
    directory = _directory(data)
    if directory is None:
        return Parts(io.BytesIO(data))
    order, big, offset, entries = directory
    length, entry, after = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    kept = [each for each in entries if each[0] in PIXEL_TAGS]
    table = struct.pack(order + length, len(kept))
    table += b"".join(struct.pack(order + entry, *each) for each in kept)
    table += struct.pack(order + after, 0)[: len(data) - offset - len(table)]  # there is no further frame
    pixels = b"".join((data[:offset], table, data[offset + len(table) :]))
    xmp = b""
    for tag, _, size, value in entries:
        if tag == XMP:
            (place,) = struct.unpack(order + after, value)
            xmp = data[place : place + min(size, MAX_METADATA)]
    return Parts(io.BytesIO(pixels), data, xmp)


def _split_png(file: IO[bytes], header: bool) -> Parts:
    """The chunks of pixels and colours. Metadata count wherever they stand, also after the pixels."""
    pixels = io.BytesIO()
    pixels.write(PNG)
    exif, xmp, profile = b"", b"", b""
    begun = False
    for kind, length, head in _png_chunks(file):
        if kind in (b"IHDR", b"PLTE", b"tRNS") and not begun:
            pixels.write(head + file.read(length + 4))
        elif kind == b"IDAT" and not (header and begun):
            begun = True
            pixels.write(head if header else head + file.read(length + 4))
        elif kind == b"eXIf":
            exif = file.read(min(length, MAX_METADATA))
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            key, text = _png_text(kind, file.read(min(length, MAX_METADATA)))
            if key in (b"XML:com.adobe.xmp", b"xmp"):
                xmp = text
            elif key == b"Raw profile type exif":
                profile = _from_hex(text)
    pixels.write(struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND")))
    pixels.seek(0)
    return Parts(pixels, exif or profile, xmp)


def _png_chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int, bytes]]:
    """(kind, length, first bytes) of each chunk, with the file at its content."""
    at = len(PNG)
    for _ in range(MAX_BLOCKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        length, kind = struct.unpack(">I4s", head)
        yield kind, length, head
        at += length + 12
    raise ValueError(f"more than {MAX_BLOCKS:,} chunks")


def _png_text(kind: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Key and text of one of PNG's three kinds of text; an empty text where it cannot be unpacked."""
    key, _, text = data.partition(b"\0")
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed = text[:1] == b"\1"
        *_, text = text[2:].split(b"\0", 2)  # after language and translated key
    elif packed:
        text = text[1:]
    if packed:
        try:
            text = zlib.decompressobj().decompress(text, MAX_METADATA)
        except zlib.error:
            text = b""
    return key, text


def _from_hex(text: bytes) -> bytes:
    """ImageMagick's form of a profile: its kind, its length and its bytes in hexadecimal, by lines."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


def _split_jpeg(file: IO[bytes], header: bool) -> Parts:
    """The segments but those of metadata, up to the first scan, and what follows."""
    pixels = io.BytesIO()
    exif, xmp, marker = b"", b"", 0
    file.seek(2)
    pixels.write(b"\xff\xd8")
    for marker, content in _jpeg_segments(file):
        if marker == 0xE1 and content.startswith(b"Exif\0\0"):
            exif += content[6:] if len(exif) < MAX_METADATA else b""
        elif marker == 0xE1 and content.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = content
        elif _jpeg_pixels(marker, content):
            pixels.write(struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content)
    if not (header and marker == FIRST_SCAN):
        pixels.write(file.read())
    pixels.seek(0)
    return Parts(pixels, exif, xmp)


def _jpeg_pixels(marker: int, content: bytes) -> bool:
    """Whether a segment matters to the pixels; of the applications' only JFIF's and Adobe's, which say how
    colours are coded.
    """
    if marker == 0xE0:
        return content.startswith(b"JFIF\0") and len(content) >= 14
    if marker == 0xEE:
        return content.startswith(b"Adobe") and len(content) >= 12
    return marker != 0xFE and not 0xE0 <= marker <= 0xEF


def _jpeg_segments(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """(marker, content) of each segment, that of the first scan's header the last; the file is left behind
    it, or at the first place that is not a segment.
    """
    for _ in range(MAX_BLOCKS):
        at = file.tell()
        head = file.read(4)
        if len(head) == 4 and head[:2] == b"\xff\xff":  # padding
            file.seek(at + 1)
            continue
        length = int.from_bytes(head[2:], "big")
        if len(head) < 4 or head[0] != 0xFF or head[1] in (0, 1) or 0xD0 <= head[1] <= 0xD9 or length < 2:
            file.seek(at)
            return
        content = file.read(length - 2)
        if len(content) < length - 2:
            file.seek(at)
            return
        yield head[1], content
        if head[1] == FIRST_SCAN:
            return
    raise ValueError(f"more than {MAX_BLOCKS:,} segments")
