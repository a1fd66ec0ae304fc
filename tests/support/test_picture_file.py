"""Metadata never decide over pixels, sizes are those of the pictures, and all that is no picture is named."""

import io
import os
import socket
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from benchmarks.fuzz.pictures import fuzz_pictures
from uno_jax.support import picture_metadata
from uno_jax.support.images import ImageError, prepare_reference, read_image, read_rgba, read_size, to_rgb

WIDE, TALL = (32, 16), (16, 32)
XMP = '<x:xmpmeta xmlns:tiff="t"><rdf:Description tiff:Orientation="{}"/></x:xmpmeta>'
SHORT, LONG = 3, 4
BYTES_EACH = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 99: 1}


def exif_block(*fields: tuple[int, int, bytes], order: str = "<") -> bytes:
    """A block of (tag, type, values as bytes)."""
    entries, values, at = b"", b"", 8 + 2 + 12 * len(fields) + 4
    for tag, kind, value in fields:
        entries += struct.pack(order + "HHI", tag, kind, len(value) // BYTES_EACH[kind])
        inline = len(value) <= 4
        entries += value.ljust(4, b"\0") if inline else struct.pack(order + "I", at + len(values))
        values += b"" if inline else value
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, len(fields))
    return head + entries + struct.pack(order + "I", 0) + values


def turned(value: bytes = b"\6\0", kind: int = SHORT) -> tuple[int, int, bytes]:
    return (0x0112, kind, value)


def lying_down() -> Image.Image:
    """A picture that is upright once turned clockwise: its red left edge becomes the top."""
    image = Image.new("RGB", WIDE, "blue")
    image.paste("red", (0, 0, 8, 16))
    return image


def write(path, exif: bytes = b"", **options):
    if exif:
        options["exif"] = b"Exif\0\0" + exif
    lying_down().save(path, **options)
    return path


def agrees(path, size) -> None:
    image = read_image(path)
    assert image.size == read_size(path) == size
    red, green, blue = image.getpixel((size[0] // 2, 2)) if size == TALL else image.getpixel((2, 8))
    assert red > 200 > 60 > blue, "not upright"
    assert to_rgb(image).size == prepare_reference(image, 32).size == size, "turned once more"
    assert to_rgb(image.resize((64, 64))).size == (64, 64)


# What stands in the block -> whether the picture is turned by it.
EXIF = {
    "plain": (exif_block(turned()), True),
    "big endian": (exif_block(turned(b"\0\6"), order=">"), True),
    "LONG": (exif_block(turned(b"\6\0\0\0", LONG)), True),
    "ASCII": (exif_block(turned(b"6\0", 2)), False),
    "BYTE": (exif_block(turned(b"\6", 1)), False),
    "UNDEFINED": (exif_block(turned(b"\6", 7)), False),
    "RATIONAL": (exif_block(turned(struct.pack("<II", 6, 1), 5)), False),
    "FLOAT": (exif_block(turned(struct.pack("<f", 6), 11)), False),
    "DOUBLE": (exif_block(turned(struct.pack("<d", 6), 12)), False),
    "unknown type": (exif_block(turned(b"\6\0", 99)), False),
    "two values": (exif_block(turned(b"\6\0\6\0")), False),
    "no value": (exif_block(turned(b"")), False),
    "0": (exif_block(turned(b"\0\0")), False),
    "9": (exif_block(turned(b"\t\0")), False),
    "negative": (exif_block(turned(struct.pack("<h", -6), 8)), False),
    "huge": (exif_block(turned(b"\xff\xff\xff\xff", LONG)), False),
    "resolution as text": (
        exif_block(turned(), (0x011A, 2, b"seventy-two\0"), (0x0128, SHORT, b"\3\0")),
        True,
    ),
    "date as float": (exif_block(turned(), (0x0132, 11, struct.pack("<f", 2020))), True),
    "make as negative short": (exif_block(turned(), (0x010F, 8, struct.pack("<h", -1))), True),
    "directories out of the file": (
        exif_block(turned(), (0x8769, LONG, b"\xff" * 4), (0x8825, 2, b"far away\0")),
        True,
    ),
    "junk": (b"junk", False),
    "empty": (b"", False),
    "no directory": (b"II*\0\xff\xff\xff\xff" + bytes(8), False),
    "cut off": (exif_block(turned())[:14] + bytes(2), False),
}


NO_FIELDS = ("big endian", "junk", "empty", "no directory", "cut off")


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
@pytest.mark.parametrize("case", EXIF)
def test_exif_of_any_kind(tmp_path, kind, case):
    block, turns = EXIF[case]
    agrees(write(tmp_path / f"a.{kind}", block), TALL if turns else WIDE)


@pytest.mark.parametrize("case", [case for case in EXIF if case not in NO_FIELDS])
def test_the_fields_of_tiff(tmp_path, case):
    block, turns = EXIF[case]
    agrees(add_fields(write(tmp_path / "a.tiff"), block), TALL if turns else WIDE)


def add_fields(path, block: bytes):
    """Adds a block's fields to a TIFF's directory, which moves to the end of the file."""
    data = path.read_bytes()
    (at,) = struct.unpack_from("<I", data, 4)
    base = len(data)
    (count,) = struct.unpack_from("<H", data, at)
    old = [data[at + 2 + 12 * i :][:12] for i in range(count)]
    (added,) = struct.unpack_from("<H", block, 8)
    place = 2 + 12 * (count + added) + 4
    new = []
    for entry in (block[10 + 12 * i :][:12] for i in range(added)):
        tag, kind, number, value = struct.unpack("<HHI4s", entry)
        if number * BYTES_EACH[kind] > 4:
            value = struct.pack("<I", base + place + struct.unpack("<I", value)[0] - (10 + 12 * added + 4))
        new.append(struct.pack("<HHI4s", tag, kind, number, value))
    table = (
        struct.pack("<H", count + added) + b"".join(sorted(old + new, key=lambda e: e[:2][::-1])) + bytes(4)
    )
    path.write_bytes(data[:4] + struct.pack("<I", base) + data[8:] + table + block[10 + 12 * added + 4 :])
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "avif", "tiff"])
def test_every_orientation(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{kind}"
    lying_down().save(path, exif=exif)
    image = read_image(path)
    assert image.size == read_size(path) == (TALL if orientation >= 5 else WIDE)
    reds = [image.getpixel(at)[0] > 150 for at in ((2, 2), (-3 % image.width, -3 % image.height))]
    assert reds == [orientation in (1, 4, 5, 6), orientation in (2, 3, 7, 8)]


@pytest.mark.parametrize(
    ("value", "size"), [("6", TALL), ("1", WIDE), ("0", WIDE), ("9", WIDE), ("66", WIDE), ("", WIDE)]
)
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tiff", "avif"])
def test_xmp(tmp_path, kind, value, size):
    path, text = tmp_path / f"a.{kind}", XMP.format(value)
    if kind == "png":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", text, zip=value == "6")
        agrees(write(path, pnginfo=info), size)
    elif kind == "tiff":
        agrees(write(path, tiffinfo={700: text.encode()}), size)
    else:
        agrees(write(path, xmp=text.encode()), size)


def test_exif_counts_before_xmp_unless_it_says_nothing_usable(tmp_path):
    agrees(write(tmp_path / "a.jpg", exif_block(turned(b"\1\0")), xmp=XMP.format(6).encode()), WIDE)
    agrees(write(tmp_path / "b.jpg", exif_block(turned(b"\t\0")), xmp=XMP.format(6).encode()), TALL)
    agrees(write(tmp_path / "c.jpg", b"junk", xmp=XMP.format(6).encode()), TALL)


def png_with(path, *chunks: tuple[bytes, bytes, bool]):
    """`chunks` are (kind, content, after the pixels)."""
    data = write(path).read_bytes()
    for kind, content, late in chunks:
        at = len(data) - 12 if late else 33  # before IEND, or behind IHDR
        chunk = struct.pack(">I", len(content)) + kind + content
        data = data[:at] + chunk + struct.pack(">I", zlib.crc32(chunk[4:])) + data[at:]
    path.write_bytes(data)
    return path


BLOCK = exif_block(turned())
HEXADECIMAL = b"\nexif\n%8d\n%s\n" % (len(BLOCK), BLOCK.hex().encode())
PNG_CHUNKS = {
    "late EXIF": ((b"eXIf", BLOCK, True), TALL),
    "late junk": ((b"eXIf", b"junk", True), WIDE),
    "late XMP": ((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP.format(6).encode(), True), TALL),
    "profile": ((b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(HEXADECIMAL), False), TALL),
    "late profile": ((b"tEXt", b"Raw profile type exif\0" + HEXADECIMAL, True), TALL),
    "broken profile": ((b"tEXt", b"Raw profile type exif\0no hexadecimal", False), WIDE),
    "packed text of 40 MB": ((b"zTXt", b"note\0\0" + zlib.compress(bytes(40_000_000)), False), WIDE),
    "text of 3 MB": ((b"tEXt", b"note\0" + b"a" * 3_000_000, False), WIDE),
    "late text of 3 MB": ((b"iTXt", b"note\0\1\0\0\0" + zlib.compress(b"a" * 3_000_000), True), WIDE),
    "profile of 3 MB": ((b"iCCP", b"p\0\0" + zlib.compress(bytes(3_000_000)), False), WIDE),
    "packed in an unknown way": ((b"zTXt", b"note\0\7abc", False), WIDE),
    "cut resolution": ((b"pHYs", b"\0", False), WIDE),
    "cut gamma": ((b"gAMA", b"", False), WIDE),
    "animation without frames": ((b"acTL", b"\0", False), WIDE),
    "frame outside": ((b"fcTL", struct.pack(">7I", 0, 99, 99, 9, 9, 0, 0), False), WIDE),
}


@pytest.mark.parametrize("case", PNG_CHUNKS)
def test_chunks_of_png(tmp_path, case):
    chunk, size = PNG_CHUNKS[case]
    agrees(png_with(tmp_path / "a.png", chunk), size)


def test_a_chunk_with_a_wrong_checksum_beside_the_pixels(tmp_path):
    path = png_with(tmp_path / "a.png", (b"tEXt", b"note\0text", False))
    path.write_bytes(path.read_bytes().replace(b"note\0text", b"note\0test"))
    agrees(path, WIDE)


SEGMENTS = {
    "empty EXIF": b"\xff\xe1\0\x08Exif\0\0",
    "short JFIF": b"\xff\xe0\0\7JFIF\0",
    "short Adobe": b"\xff\xee\0\7Adobe",
    "further pictures that are none": b"\xff\xe2\0\x10MPF\0II*\0\x08\0\0\0\xff\xff",
    "cut Photoshop": b"\xff\xed\0\x16Photoshop 3.0\x008BIM\4\4",
    "broken profile": b"\xff\xe2\0\x12ICC_PROFILE\0\0\0ab",
    "padding": b"\xff\xff\xff",
}


@pytest.mark.parametrize("case", SEGMENTS)
def test_segments_of_jpeg(tmp_path, case):
    path = write(tmp_path / "a.jpg", exif_block(turned()))
    data = path.read_bytes()
    path.write_bytes(data[:2] + SEGMENTS[case] + data[2:])
    agrees(path, TALL)


def test_multi_picture_files_are_read_as_their_first(tmp_path):
    lying_down().save(tmp_path / "a.mpo", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    agrees(tmp_path / "a.mpo", WIDE)


def test_avif_is_turned_by_its_own_boxes_and_its_exif_hidden(tmp_path):
    path = write(tmp_path / "a.avif", exif_block(turned(), (0x0132, 2, b"2020\0")))
    agrees(path, TALL)
    data = path.read_bytes()
    assert b"II*\0" in data
    path.write_bytes(data.replace(b"II*\0", b"junk"))
    agrees(path, TALL)


def test_pictures_in_memory_are_turned_whatever_their_metadata(tmp_path):
    for case, (block, turns) in EXIF.items():
        image = lying_down()
        image.info["exif"] = block
        assert to_rgb(image).size == (TALL if turns else WIDE), case
    image.info["exif"] = "a text"
    assert to_rgb(image).size == WIDE
    path = write(tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:60])
    with Image.open(path) as opened, pytest.raises(ImageError, match="a.png: cannot be read"):
        to_rgb(opened)


def test_cut_outs_are_turned_with_their_alpha(tmp_path):
    image = Image.new("RGBA", WIDE, (255, 0, 0, 128))
    image.save(tmp_path / "a.png", exif=b"Exif\0\0" + exif_block(turned()))
    assert read_rgba(tmp_path / "a.png").getpixel((3, 30)) == (255, 0, 0, 128)


PROGRAMS = {
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n{ } loop\n",
    "PDF": b"%PDF-1.4\n",
    "DDS": b"DDS \x7c\0\0\0" + bytes(120),
    "BLP": b"BLP1" + bytes(160),
    "PSD": b"8BPS\0\1" + bytes(40),
    "ICO": b"\0\0\1\0\1\0" + bytes(40),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "FITS": b"SIMPLE  =                    T",
}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_other_formats_are_refused_by_their_content(tmp_path, kind):
    path = tmp_path / "a.png"
    path.write_bytes(PROGRAMS[kind])
    for read in (read_image, read_size, read_rgba):
        with pytest.raises(ImageError, match="a.png: not a picture in PNG, JPEG, WEBP"):
            read(path)


def odd_files(folder):
    """(path, what its error says) of each thing that is not a regular file."""
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    (folder / "one.png").symlink_to(folder / "two.png")
    (folder / "two.png").symlink_to(folder / "one.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "s.png"))
    yield folder / "pipe.png", "pipe.png is a named pipe, expected a picture"
    yield folder / "folder.png", "folder.png is a directory, expected a picture"
    yield folder / "one.png", "one.png: cannot be read: Too many levels of symbolic links"
    yield folder / "s.png", "s.png is a socket, expected a picture"
    yield "/dev/zero", "/dev/zero is a device, expected a picture"


def test_what_is_not_a_regular_file_is_refused_unread(tmp_path):
    for path, message in odd_files(tmp_path):
        for read in (read_image, read_size):
            with pytest.raises(ImageError, match=message):
                read(path)


def test_a_file_that_is_too_large_is_refused_unread(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ImageError, match="a.png: 1048576 MiB are more than 512"):
        read_image(tmp_path / "a.png")


def test_each_side_is_bounded(tmp_path):
    Image.new("L", (1, 40_000)).save(tmp_path / "a.png")
    for read in (read_image, read_size):
        with pytest.raises(ImageError, match="1x40000 has a side of more than 32768 pixels"):
            read(tmp_path / "a.png")


def test_endless_chunks_are_refused(monkeypatch):
    monkeypatch.setattr(picture_metadata, "MAX_BLOCKS", 50)
    lying_down().save(file := io.BytesIO(), "PNG")
    chunk = struct.pack(">I4sI", 0, b"teSt", zlib.crc32(b"teSt"))
    data = file.getvalue()
    with pytest.raises(ImageError, match="more than 50 chunks"):
        read_image(io.BytesIO(data[:33] + 60 * chunk + data[33:]), "a.png")
    lying_down().save(file := io.BytesIO(), "JPEG")
    data = file.getvalue()
    with pytest.raises(ImageError, match="more than 50 segments"):
        read_image(io.BytesIO(data[:2] + 60 * b"\xff\xfe\0\2" + data[2:]), "a.jpg")


@pytest.mark.parametrize(
    "error", [RuntimeError, NotImplementedError, AssertionError, OverflowError, MemoryError]
)
def test_whatever_a_decoder_raises_names_the_picture(tmp_path, monkeypatch, error):
    def decode(*args):
        raise error("of two\nlines")

    path = write(tmp_path / "a.bmp")
    monkeypatch.setattr(Image.Image, "load", decode)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    with pytest.raises(ImageError, match=r"a.bmp: cannot be read, truncated or damaged \(of two lines\)"):
        read_image(path)


def test_damaged_pictures_are_refused_and_sizes_are_those_of_the_pictures():
    for name, outcome in fuzz_pictures(reads=4000, seconds=60, seed=11).items():
        assert not outcome.other and not outcome.sizes_differ, f"{name}: {outcome}"
        assert outcome.good and outcome.refused


def test_colours_are_those_of_the_whole_file(tmp_path):
    """What is left out beside the pixels changes none of them."""
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8))
    for kind, options in {
        "jpg": {"quality": 95, "progressive": True},
        "png": {"interlace": 1},
        "tiff": {"compression": "tiff_lzw"},
    }.items():
        for mode in ("RGB", "L", "CMYK") if kind != "png" else ("RGB", "L", "P", "1"):
            path = tmp_path / f"{mode}.{kind}"
            photo.convert(mode).save(path, **options, icc_profile=b"p" * 200)
            with Image.open(path) as plain:
                np.testing.assert_array_equal(np.asarray(read_image(path)), np.asarray(plain.convert("RGB")))
