"""The contact sheet of a run: every picture beside its references, over its prompt and seed."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from uno_jax.sampling.results import Output, is_picture
from uno_jax.support.atomic import atomic_write
from uno_jax.support.contact_sheet import CELL, Row, contact_sheet
from uno_jax.support.images import read_image

MOST = 500  # pictures of a sheet: as many as a page of 50 megapixels holds in two columns
WIDEST = 8  # cells side by side


def write_sheet(out: Path | None, outputs: Sequence[Output], made: Sequence[Path]) -> Path:
    """Writes the sheet of the first pictures of `outputs` in `out`, or numbered ones, which were all `made`;
    an earlier sheet is replaced. Returns its file.
    """
    paths = [output.path for output in outputs if output.path] or made
    sheet = sheet_path(out, paths)
    shown = list(zip(outputs, paths, strict=True))[:MOST]
    most = max(len(output.job.refs) for output, _ in shown)
    rows = []
    for output, path in shown:
        refs = [_small(ref.path) for ref in output.job.refs]
        caption = f"{output.job.prompt} ({output.job.seed})"
        rows.append(Row([*refs, *[None] * (most - len(refs)), _small(path)], caption))
    columns = [*["reference"] * most, "picture"]
    abreast = max(1, min(len(rows), WIDEST // len(columns)))
    with atomic_write(sheet) as partial:
        contact_sheet(columns, rows, abreast).save(partial, format="png")
    return sheet


def sheet_path(out: Path | None, paths: Sequence[Path]) -> Path:
    """Where the sheet of pictures lies: beside them, under a name that no picture has."""
    if out is not None and not is_picture(out):
        return out / "sheet.png"
    first, last = paths[0], paths[-1]
    stem = first.stem if first == last else f"{first.stem}-{last.stem}"
    return first.with_name(f"{stem}_sheet.png")


def _small(path: Path) -> Image.Image:
    """A picture in the size of a sheet's cells, since all of a run may not fit in memory."""
    picture = read_image(path)
    picture.thumbnail((CELL, CELL))
    return picture
