"""Pictures of every kind become upright RGB, sizes are those recorded from UNO, unusable files are named."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uno_jax.support.images import (
    ImageError,
    batch_bucket_size,
    bucket_size,
    prepare_reference,
    read_image,
    to_array,
    to_image,
    to_rgb,
)

HERE = Path(__file__).parents[1]
RECORDED = json.loads((HERE / "golden" / "preprocess.json").read_text())
ORIENTATION = 0x0112


def quadrants(mode: str = "RGB") -> Image.Image:
    """32x16: red, green above blue, white; so that every rotation shows."""
    image = Image.new("RGB", (32, 16), "red")
    image.paste("green", (16, 0, 32, 8))
    image.paste("blue", (0, 8, 16, 16))
    image.paste("white", (16, 8, 32, 16))
    return image.convert(mode)


def largest_difference(image: Image.Image, expected: Image.Image) -> int:
    assert image.mode == "RGB" and image.size == expected.size
    return int(np.abs(np.asarray(image, int) - np.asarray(expected.convert("RGB"), int)).max())


@pytest.mark.parametrize(
    "photo", sorted((HERE / "assets" / "photos").glob("*.jpg")), ids=lambda path: path.stem
)
def test_photos(photo):
    image = read_image(photo)
    reference = prepare_reference(image, 320)
    assert image.mode == reference.mode == "RGB"
    assert max(reference.size) == 320 and reference.width % 16 == reference.height % 16 == 0
    # The same picture at another scale: the average colour stays.
    assert np.abs(np.asarray(reference).mean((0, 1)) - np.asarray(image).mean((0, 1))).max() < 6


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90), (5, Image.Transpose.TRANSPOSE)],
)
@pytest.mark.parametrize("kind", ["png", "jpg", "tiff"])
def test_exif_rotation(tmp_path, kind, orientation, turn):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"a.{kind}"
    quadrants().transpose(turn).save(path, exif=exif)
    image = read_image(path)
    if kind != "jpg":  # JPEG blurs the quadrants' edges.
        assert largest_difference(image, quadrants()) == 0
    assert image.size == (32, 16) and image.getpixel((2, 2))[0] > 200
    assert largest_difference(to_rgb(image), image) == 0, "rotated a second time"


def test_alpha_is_composited_over_white(tmp_path):
    expected = Image.new("RGB", (4, 4), (255, 127, 127))
    half_red = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    half_red.save(tmp_path / "rgba.png")
    assert largest_difference(read_image(tmp_path / "rgba.png"), expected) == 0

    Image.new("LA", (4, 4), (0, 0)).save(tmp_path / "la.png")
    assert largest_difference(read_image(tmp_path / "la.png"), Image.new("RGB", (4, 4), "white")) == 0


def test_transparent_colour_becomes_white(tmp_path):
    expected = quadrants()
    expected.paste("white", (0, 0, 16, 8))
    palette = quadrants().convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(tmp_path / "p.png", transparency=palette.getpixel((0, 0)))
    assert largest_difference(read_image(tmp_path / "p.png"), expected) == 0

    quadrants().save(tmp_path / "key.png", transparency=(255, 0, 0))
    assert largest_difference(read_image(tmp_path / "key.png"), expected) == 0


def test_palette_grey_and_bilevel(tmp_path):
    quadrants().convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.gif")
    assert largest_difference(read_image(tmp_path / "p.gif"), quadrants()) == 0
    for mode in ("L", "1"):
        quadrants(mode).save(tmp_path / "grey.png")
        assert largest_difference(read_image(tmp_path / "grey.png"), quadrants(mode)) == 0


def test_cmyk(tmp_path):
    quadrants("CMYK").save(tmp_path / "a.jpg", quality=100)
    image = read_image(tmp_path / "a.jpg")
    assert image.getpixel((28, 12)) == (255, 255, 255) and image.getpixel((2, 2))[0] > 240
    quadrants("CMYK").save(tmp_path / "a.tiff")
    assert largest_difference(read_image(tmp_path / "a.tiff"), quadrants()) == 0


@pytest.mark.parametrize("kind", ["png", "tiff", "pgm"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, kind):
    ramp = np.array([[0, 128, 129, 257, 32768, 65534, 65535]], np.uint16)
    Image.fromarray(ramp).save(tmp_path / f"a.{kind}")
    image = read_image(tmp_path / f"a.{kind}")
    assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255, 255]


def test_first_frame_of_an_animation(tmp_path):
    for name in ("a.gif", "a.webp", "a.png"):
        frames = [quadrants(), Image.new("RGB", (32, 16), "black")]
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        assert largest_difference(read_image(tmp_path / name), quadrants()) == 0


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header states a size, without pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 1000) + b"IDAT"


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.png: no such picture"):
        read_image(tmp_path / "absent.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.png: not a picture"),
        (b"<html>404</html>", "a.png: not a picture"),
        (png_header(8000, 6251), "a.png: 8000x6251 is more than 50 megapixels"),
        (png_header(40000, 40000), "a.png: is more than 50 megapixels"),
        (png_header(8000, 6250), "a.png: cannot be read, truncated"),
    ],
    ids=["empty", "html", "50.008 MP", "1600 MP", "no pixels"],
)
def test_unusable_file_is_named(tmp_path, content, message):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=message):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "gif", "tiff", "bmp"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_truncated_file_is_named(tmp_path, kind, part):
    path = tmp_path / f"a.{kind}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(ImageError, match=f"a.{kind}: "):
        read_image(path)


def test_pixels_without_8_bit_meaning_are_refused(tmp_path):
    Image.new("F", (4, 4), 0.5).save(tmp_path / "float.tiff")
    with pytest.raises(ImageError, match="float.tiff: floating-point"):
        read_image(tmp_path / "float.tiff")
    Image.new("I", (4, 4), 70000).save(tmp_path / "deep.tiff")
    with pytest.raises(ImageError, match="deep.tiff: grey values from 70000 to 70000"):
        read_image(tmp_path / "deep.tiff")


@pytest.mark.parametrize("row", RECORDED, ids=lambda row: f"{row['width']}x{row['height']}")
def test_sizes_are_those_recorded_from_uno(row):
    size = row["width"], row["height"]
    for resolution in (320, 512, 1024):
        assert list(bucket_size(*size, resolution)) == row[f"bucket_{resolution}_hw"]
    image = Image.new("RGB", size)
    for longest_side in (512, 320):
        expected = row[f"ref_{longest_side}"]
        if all(expected):
            assert list(prepare_reference(image, longest_side).size) == expected
        else:
            with pytest.raises(ImageError, match=f"thin.jpg: {size[0]}x{size[1]} becomes"):
                prepare_reference(image, longest_side, name="thin.jpg")


def test_a_line_of_pixels_is_refused():
    with pytest.raises(ImageError, match="5000x2 becomes 512x0"):
        prepare_reference(Image.new("RGB", (5000, 2)), 512)


def test_reference_is_cut_from_the_centre():
    # 64x40 scales to itself; 40 rows are cut to 32: 4 above, 4 below.
    image = Image.new("RGB", (64, 40), "red")
    image.paste("blue", (0, 4, 64, 36))
    assert largest_difference(prepare_reference(image, 64), Image.new("RGB", (64, 32), "blue")) == 0


def test_batch_bucket_is_of_the_mean_height_over_width():
    # Means: height/width 1.67, so 640x384; width/height 1.67 would be 384x640.
    assert batch_bucket_size([(300, 100), (100, 300)], 512) == (640, 384)
    assert batch_bucket_size([(512, 512), (512, 512)], 320) == (320, 320)


def test_bucket_of_too_small_a_resolution_is_refused():
    assert bucket_size(300, 100, 32) == (16, 48)
    with pytest.raises(ValueError, match="resolution 31"):
        bucket_size(300, 100, 31)


def test_pixels_and_arrays():
    image = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")
    array = to_array(image)
    assert array.shape == (16, 16, 3) and array.dtype == np.float32
    assert array.min() == -1 and array.max() == 1
    # Truncation may lose one step, as UNO's does.
    assert largest_difference(to_image(array), image) <= 1


def test_array_is_clamped_and_truncated():
    column = np.array([-3, -1, -0.5, 0, 0.999, 1, 3], np.float32)
    image = to_image(np.repeat(column[:, None, None], 3, 2))
    assert np.asarray(image)[:, 0, 0].tolist() == [0, 0, 63, 127, 254, 255, 255]
