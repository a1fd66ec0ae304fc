"""Pairs that others made -> rows of the manifest "import", so that the filters can be run on them.

Three forms, told apart by what is there: UNO-1M's label file, a list in UNO's own JSON form (prompt,
image_paths, image_tgt_path), and a folder of Parquet files as Subjects200K has them (two panels a picture).
"""

import io
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ...common.manifest import Failed, Json, Row, SynthesisError, identity
from .image_files import UNREADABLE, save

if TYPE_CHECKING:
    from .run import Run

STAGE = "import"
AT_A_TIME = 256
SHOWN = 10
PADDING = 16  # pixels that Subjects200K has at most around its panels
PLAIN = 8  # levels of 255 by which JPEG changes a line of one colour


def pairs(run: "Run") -> list[Row]:
    """Every imported pair that can be used: inputs subject, prompt and source, result first and second. Of an
    entry that a list gave twice, the later one.
    """
    rows = (row for row in run.manifest(STAGE).read().values() if row.result is not None)
    return list({(row.inputs["source"], row.inputs["entry"]): row for row in rows}.values())


def import_list(run: "Run", source: Path | None) -> None:
    """Adds what the manifest lacks of `source`; entries that cannot be used are counted and named.

    Raises SynthesisError when `source` is none of the forms.
    """
    if source is None or not source.exists():
        raise SynthesisError(f"nothing to import at {source}: pass --source with a JSON list or a folder")
    manifest = run.manifest(STAGE)
    manifest.mend()
    known, failed, added = set(manifest.read()), [], 0
    rows = parquet_rows(run.folder, source, known) if source.is_dir() else json_rows(source)
    with tqdm(rows, desc=STAGE, unit="pair", dynamic_ncols=True) as bar:
        stream = iter(bar)
        while batch := list(islice(stream, AT_A_TIME)):
            new = {row.id: row for row in batch if row.id not in known}
            manifest.append(new.values())
            known |= new.keys()
            failed += [row for row in new.values() if row.result is None]
            added += len(new)
    run.forget()
    for row in failed[:SHOWN]:
        print(f"cannot be used: {row.inputs}: {row.failed}")
    print(f"{STAGE}: {added} new rows, {len(failed)} of them cannot be used")


def make_row(inputs: Json, outcome: Json | Failed) -> Row:
    id = identity(STAGE, None, inputs)
    if isinstance(outcome, Failed):
        return Row(id, inputs, None, outcome.reason)
    return Row(id, inputs, outcome)


def json_rows(path: Path) -> Iterator[Row]:
    """Rows of a JSON list, one entry in memory at a time."""
    import ijson

    number = -1
    with path.open("rb") as file:
        try:
            for number, entry in enumerate(ijson.items(file, "item", use_float=True)):
                yield read_entry(entry, path, number)
        except ijson.JSONError as error:
            raise SynthesisError(f"{path} is no readable JSON list: {error}") from None
    if number < 0:
        raise SynthesisError(f"{path} must be a JSON list with at least one entry")


def read_entry(entry: Any, path: Path, number: int) -> Row:
    source = {"source": str(path.absolute()), "entry": number}
    try:
        if "img_path1" in entry:
            caption = entry["caption"]
            first, second, prompt = entry["img_path1"], entry["img_path2"], caption["img_path2"]
            subject = ", ".join(caption.get("subject") or ())
            given = {"score": (entry.get("vlm_filter_cot") or {}).get("score_final")}
        else:
            references = entry.get("image_paths") or [entry["image_path"]]
            first, second, prompt = references[0], entry["image_tgt_path"], entry["prompt"]
            subject, given = "", {}
            if len(references) > 1:
                raise ValueError(f"{len(references)} references; only pairs of one can be filtered")
        if not all(isinstance(text, str) and text for text in (first, second, prompt)):
            raise ValueError("paths and prompt must be texts")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        why = f"no entry of a known form ({type(error).__name__}: {error})"
        return make_row(source, Failed(why))
    paths = {name: find_picture(path, place) for name, place in (("first", first), ("second", second))}
    for place, found in zip((first, second), paths.values(), strict=True):
        if found is None:
            return make_row({**source, "missing": place}, Failed(f"no picture {place} beside {path}"))
    inputs = {"parent": "", **source, "subject": subject or prompt, "prompt": prompt, **paths}
    return make_row(inputs, {**paths, **given})


def find_picture(path: Path, place: str) -> str | None:
    """A picture that a list names relative to itself; UNO-1M's are in images/, beside its list or above."""
    folder = path.parent.absolute()
    for root in (folder, folder / "images", folder.parent / "images"):
        if (root / place).is_file():
            return str(root / place)
    return None


def parquet_rows(folder: Path, source: Path, known: set[str]) -> Iterator[Row]:
    """Rows of Parquet files with the columns image and description; panels are cut out and saved."""
    from pyarrow.parquet import ParquetFile

    files = sorted(source.rglob("*.parquet"))
    if not files:
        raise SynthesisError(f"{source} holds no Parquet files (*.parquet)")
    for path in files:
        table = ParquetFile(path)
        if missing := {"image", "description"} - set(table.schema_arrow.names):
            raise SynthesisError(f"{path} lacks the columns {', '.join(sorted(missing))}")
        columns = [
            name
            for name in ("image", "description", "quality_assessment")
            if name in table.schema_arrow.names
        ]
        entries = (
            entry for batch in table.iter_batches(AT_A_TIME, columns=columns) for entry in batch.to_pylist()
        )
        yield from diptych_rows(folder, path, entries, known)


def diptych_rows(folder: Path, path: Path, entries: Iterable[Any], known: set[str]) -> Iterator[Row]:
    for number, entry in enumerate(entries):
        inputs: Json = {"parent": "", "source": str(path.absolute()), "entry": number}
        try:
            told = entry["description"]
            inputs |= {"subject": told["item"], "prompt": told["description_1"]}
            id = identity(STAGE, None, inputs)
            if id in known:
                continue
            panels = halves(Image.open(io.BytesIO(entry["image"]["bytes"])).convert("RGB"))
            names = ("first", "second")
            places = {
                name: save(panel, folder, STAGE, id, name) for name, panel in zip(names, panels, strict=True)
            }
            yield Row(id, inputs, {**places, "quality": entry.get("quality_assessment")})
        except (KeyError, TypeError, *UNREADABLE) as error:
            yield make_row(inputs, Failed(f"no entry of a known form ({type(error).__name__}: {error})"))


def halves(image: Image.Image) -> list[Image.Image]:
    """Left and right panel, without the padding around each."""
    middle = image.width // 2
    return [
        trimmed(image.crop((left, 0, right, image.height)))
        for left, right in ((0, middle), (middle, image.width))
    ]


def trimmed(image: Image.Image) -> Image.Image:
    """Without up to PADDING lines of one colour on each side."""
    box = []
    for length, lines in ((image.width, columns_of(image)), (image.height, rows_of(image))):
        varied = np.flatnonzero((np.ptp(lines, axis=1) > PLAIN).any(-1))
        first, last = (int(varied[0]), int(varied[-1]) + 1) if len(varied) else (0, length)
        box.append((min(first, PADDING), max(last, length - PADDING)))
    (left, right), (top, bottom) = box
    return image.crop((left, top, right, bottom))


def rows_of(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.int16)


def columns_of(image: Image.Image) -> np.ndarray:
    return rows_of(image).swapaxes(0, 1)
