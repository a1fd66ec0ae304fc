"""A contact sheet: pictures side by side under the names of their columns, each row with a caption."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont, ImageOps

CELL = 256  # side in pixels of a picture with its gap
GAP, MARGIN, HEADER, LINE = 4, 12, 34, 22
SIZE = 18  # font size


class Row(NamedTuple):
    """One entry: a picture for each column (None leaves the cell empty) and the text below them."""

    pictures: Sequence[Image.Image | None]
    caption: str


def contact_sheet(columns: Sequence[str], rows: Sequence[Row], abreast: int = 1) -> Image.Image:
    """All rows as one picture, `abreast` of them side by side; pictures keep their aspect ratio."""
    pen_width = SIZE // 2  # approximate width of a letter
    captions = [textwrap.wrap(row.caption, len(columns) * CELL // pen_width) for row in rows]
    width = len(columns) * CELL + 2 * MARGIN
    height = CELL + LINE * max(len(lines) for lines in captions) + GAP * 2
    page = Image.new("RGB", (abreast * width, HEADER + -(-len(rows) // abreast) * height + MARGIN), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(SIZE)
    for index, (row, lines) in enumerate(zip(rows, captions, strict=True)):
        left, top = index % abreast * width + MARGIN, HEADER + index // abreast * height
        for column, (name, picture) in enumerate(zip(columns, row.pictures, strict=True)):
            x = left + column * CELL
            if index < abreast:
                pen.text((x + GAP, 7), name, "black", font)
            if picture is not None:
                page.paste(
                    ImageOps.contain(picture, (CELL - GAP, CELL - GAP), Image.Resampling.BICUBIC), (x, top)
                )
        pen.text((left + GAP, top + CELL), "\n".join(lines), "dimgrey", font)
    return page


def above_one_another(pages: Sequence[Image.Image]) -> Image.Image:
    """Pages of any widths as one."""
    whole = Image.new("RGB", (max(page.width for page in pages), sum(page.height for page in pages)), "white")
    top = 0
    for page in pages:
        whole.paste(page, (0, top))
        top += page.height
    return whole
