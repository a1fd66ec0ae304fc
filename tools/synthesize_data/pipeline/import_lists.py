"""Pairs from other sources -> rows of the manifest "import", so that the filters can be run on them.

Three formats are recognised by their content: UNO-1M's label file, a list in UNO's own JSON format (prompt,
image_paths, image_tgt_path), and a Parquet file, or a folder of them, like those of Subjects200K (two panels
per picture).
"""

import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from uno_jax.support.images import read_image
from uno_jax.support.words import counted

from ...common.errors import ToolError
from ...common.manifest import Failed, Json, Row, identity, make_row
from .image_files import save_image
from .stage import Rows

STAGE = "import"
CHUNK = 256  # rows that are written to the manifest at a time
SHOWN = 10
PADDING = 16  # largest padding in pixels around the panels of Subjects200K
SEAM = 8  # pixels from the middle within which a white line between the panels lies
WHITE = 200  # levels of 255 that nine of ten pixels of such a line have
PLAIN = 8  # levels of 255 by which JPEG changes a line of one colour


def imported_pairs(run: Rows) -> list[Row]:
    """Every usable imported pair: inputs subject, prompt and source, result first and second. If a list
    changed an entry, the later version.
    """
    rows = (row for row in run.manifest(STAGE).read().values() if row.result is not None)
    return list({(row.inputs["source"], row.inputs["entry"]): row for row in rows}.values())


def import_list(run: Rows, source: Path | None) -> None:
    """Adds the entries of `source` that the manifest lacks; reports those that cannot be used.

    Raises ToolError when `source` has none of the formats.
    """
    if source is None or not source.exists():
        raise ToolError(
            f"nothing to import at {source}: pass --source with a JSON list, a Parquet file or a folder"
        )
    manifest = run.manifest(STAGE)
    manifest.cut_torn_line()
    known, failed, added = set(manifest.read()), [], 0
    files = parquet_files(source)
    rows = parquet_rows(run.folder, files, known) if files else json_rows(source)
    with tqdm(rows, desc=STAGE, unit="pair", dynamic_ncols=True) as bar:
        stream = iter(bar)
        while chunk := list(islice(stream, CHUNK)):
            new = {row.id: row for row in chunk if row.id not in known}
            manifest.append(new.values())
            known |= new.keys()
            failed += [row for row in new.values() if row.result is None]
            added += len(new)
    run.forget()
    for row in failed[:SHOWN]:
        print(f"cannot be used: {row.inputs}: {row.failed}")
    print(f"{STAGE}: {counted(added, 'new row')}, {len(failed)} of them cannot be used")


def import_row(inputs: Json, outcome: Json | Failed) -> Row:
    return make_row(identity(STAGE, None, inputs), inputs, outcome)


def json_rows(path: Path) -> Iterator[Row]:
    """Yields the rows of a JSON list, one entry in memory at a time."""
    from uno_jax.data.entries import DataError
    from uno_jax.data.list_files import read_entries

    try:
        for number, entry in enumerate(read_entries(path)):
            yield read_entry(entry, path, number)
    except DataError as error:
        raise ToolError(str(error)) from None


class Pair(NamedTuple):
    """What an entry says about a pair; paths are those of the list."""

    first: str
    second: str
    prompt: str
    subject: str
    given: Json
    """More for the row's result."""


def read_entry(entry: Any, path: Path, number: int) -> Row:
    """The row of an entry of UNO-1M's labels or of a list in UNO's format."""
    source = {"source": str(path.absolute()), "entry": number}
    try:
        pair = read_pair(entry)
        json.dumps(pair, ensure_ascii=False).encode()  # half of a character cannot be in a manifest
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        return import_row(source, Failed(unknown_format(error)))
    found = {}
    for name, place in (("first", pair.first), ("second", pair.second)):
        file = find_picture(path, place)
        if file is None:
            return import_row({**source, "missing": place}, Failed(f"no picture {place} beside {path}"))
        found[name] = file
    inputs = {"parent": "", **source, "subject": pair.subject or pair.prompt, "prompt": pair.prompt, **found}
    return import_row(inputs, {**found, **pair.given})


def unknown_format(error: Exception) -> str:
    return f"not an entry of a known format ({type(error).__name__}: {error})"


def read_pair(entry: Any) -> Pair:
    """Raises KeyError, TypeError, AttributeError or ValueError for an entry of another format."""
    if "img_path1" in entry:
        caption = entry["caption"]
        pair = Pair(
            first=entry["img_path1"],
            second=entry["img_path2"],
            prompt=caption["img_path2"],
            subject=", ".join(caption.get("subject") or ()),
            given={"score": (entry.get("vlm_filter_cot") or {}).get("score_final")},
        )
    else:
        references = entry.get("image_paths") or [entry["image_path"]]
        pair = Pair(references[0], entry["image_tgt_path"], entry["prompt"], subject="", given={})
        if len(references) > 1:
            raise ValueError(f"{len(references)} references; only pairs with one can be filtered")
    if not all(isinstance(text, str) and text for text in pair[:3]):
        raise ValueError("paths and prompt must be texts")
    return pair


def find_picture(path: Path, place: str) -> str | None:
    """Finds a picture named relative to a list; UNO-1M's are in images/, beside its list or above it."""
    folder = path.parent.absolute()
    for root in (folder, folder / "images", folder.parent / "images"):
        if os.path.isfile(root / place):  # unlike Path's, False for a name that is too long
            return str(root / place)
    return None


def parquet_files(source: Path) -> list[Path]:
    """The Parquet files that a source is or holds; none for a list.

    Raises ToolError for a folder without any.
    """
    if not source.is_dir():
        return [source] if source.suffix == ".parquet" else []
    if files := sorted(source.rglob("*.parquet")):
        return files
    raise ToolError(f"{source} holds no Parquet files (*.parquet)")


def parquet_rows(folder: Path, files: Sequence[Path], known: set[str]) -> Iterator[Row]:
    """Yields rows of Parquet files with columns image and description; saves the panels."""
    from uno_jax.data.entries import DataError
    from uno_jax.data.parquet_file import open_parquet, rows_of

    for path in files:
        try:
            table = open_parquet(path)
            present = table.schema_arrow.names
            if missing := {"image", "description"} - set(present):
                raise ToolError(f"{path} lacks the columns {', '.join(sorted(missing))}")
            columns = [name for name in ("image", "description", "quality_assessment") if name in present]
            yield from diptych_rows(folder, path, rows_of(table, path, CHUNK, columns), known)
        except DataError as error:
            raise ToolError(str(error)) from None


def diptych_rows(folder: Path, path: Path, entries: Iterable[Any], known: set[str]) -> Iterator[Row]:
    for number, entry in enumerate(entries):
        inputs: Json = {"parent": "", "source": str(path.absolute()), "entry": number}
        try:
            description = entry["description"]
            inputs |= {"subject": description["item"], "prompt": description["description_1"]}
            id = identity(STAGE, None, inputs)
            if id in known:
                continue
            panels = cut_halves(read_image(io.BytesIO(entry["image"]["bytes"]), f"entry {number}"))
            places = {
                name: save_image(panel, folder, STAGE, id, name)
                for name, panel in zip(("first", "second"), panels, strict=True)
            }
            yield Row(id, inputs, {**places, "quality": entry.get("quality_assessment")})
        except (KeyError, TypeError, OSError, ValueError) as error:
            yield import_row(inputs, Failed(unknown_format(error)))


def cut_halves(image: Image.Image) -> list[Image.Image]:
    """Left and right panel, without the padding around each and without a white line where they meet."""
    middle = image.width // 2
    left = trim_padding(image.crop((0, 0, middle, image.height)))
    right = trim_padding(image.crop((middle, 0, image.width, image.height)))
    line_left = line_at_edge(np.asarray(left).swapaxes(0, 1)[::-1])
    line_right = line_at_edge(np.asarray(right).swapaxes(0, 1))
    return [
        left.crop((0, 0, left.width - line_left, left.height)),
        right.crop((line_right, 0, right.width, right.height)),
    ]


def line_at_edge(columns: np.ndarray) -> int:
    """How many of the columns, from the seam on, lie before and in a white line, and in its blurred edge.

    A line that is neither in the middle nor of exactly one colour is none to `trim_padding`. White that goes
    on beyond SEAM columns is the panel's own.
    """
    darkest = columns[: SEAM + 1].min(-1)
    white = np.flatnonzero(np.quantile(darkest, 0.1, axis=1) >= WHITE)
    return int(white[-1]) + 2 if len(white) and white[-1] < SEAM else 0


def trim_padding(image: Image.Image) -> Image.Image:
    """Removes up to PADDING lines of one colour on each side."""
    pixels = np.asarray(image, np.int16)
    left, right = varied_range(pixels.swapaxes(0, 1))
    top, bottom = varied_range(pixels)
    return image.crop((left, top, right, bottom))


def varied_range(lines: np.ndarray) -> tuple[int, int]:
    """The first and last line (not included) that are not padding."""
    varied = np.flatnonzero((np.ptp(lines, axis=1) > PLAIN).any(-1))
    first, last = (int(varied[0]), int(varied[-1]) + 1) if len(varied) else (0, len(lines))
    return min(first, PADDING), max(last, len(lines) - PADDING)
