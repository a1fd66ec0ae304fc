"""A list, or Parquet files with pictures in them -> entries to draw, whose references are files.

Pictures in Parquet files are written to a folder, under the numbers of entry and reference.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from uno_jax.data.entries import DataError
from uno_jax.data.image_files import slash_hint
from uno_jax.data.list_files import read_entries
from uno_jax.data.parquet_file import open_parquet, rows_of
from uno_jax.evaluation.lists.forms import Asked, parse_entry
from uno_jax.support.atomic import atomic_write
from uno_jax.support.picture_file import open_picture
from uno_jax.support.words import counted

PARQUET = ".parquet"
ROWS = 16  # read at a time: a row may hold several pictures
SHOWN = 10


class Entry(NamedTuple):
    """One entry of a list; references and subjects are in the same order."""

    prompt: str
    references: tuple[Path, ...]
    subjects: tuple[str, ...]
    category: str
    key: str

    def listed(self) -> dict[str, Any]:
        """The entry in UNO's form, with what else is known of it."""
        own = {"prompt": self.prompt, "image_paths": [str(path.absolute()) for path in self.references]}
        return own | {"category": self.category, "key": self.key}


def read_list(path: Path, data: Path | None, pictures: Path) -> list[Entry]:
    """The entries of a JSON list, of a Parquet file, or of a folder of these. Paths are relative to `data`,
    by default to the list's folder; pictures that a file holds itself are written to the folder `pictures`.

    Raises OSError or DataError that names up to SHOWN entries that cannot be used.
    """
    entries, problems, count = [], [], 0
    places: dict[tuple[str, str], int] = {}
    for count, row in enumerate(read_rows(path), 1):
        try:
            asked = parse_entry(row, count - 1)
            first = places.setdefault((asked.category, asked.key), count - 1)
            if first < count - 1:
                raise DataError(f'its key "{asked.key}" is that of entry {first}, of the same kind')
            entries.append(located(asked, data or path.parent, pictures / str(count - 1)))
        except (ValueError, OSError) as error:
            problems.append(f"  entry {count - 1}: {error}")
    if problems:
        more = [f"  and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        bad = counted(len(problems), "bad entry", "bad entries")
        raise DataError("\n".join([f"{path} has {bad} of {count}:", *problems[:SHOWN], *more]))
    return entries


def read_rows(path: Path) -> Iterator[Any]:
    """The entries as they are written."""
    if not path.is_dir() and path.suffix != PARQUET:
        yield from read_entries(path)
        return
    files = sorted(path.rglob(f"*{PARQUET}")) if path.is_dir() else [path]
    empty = True
    for file in files:
        for row in rows_of(open_parquet(file), file, ROWS):
            empty = False
            yield row
    if empty:
        raise DataError(f"{path} must hold Parquet files (*{PARQUET}) with at least one row, got none")


def located(asked: Asked, folder: Path, prefix: Path) -> Entry:
    """The entry, its references as files: those in `folder`, and its own written to PREFIX_{reference}.

    Raises FileNotFoundError or images.ImageError.
    """
    references = tuple(
        named(folder, each) if isinstance(each, str) else written(each, Path(f"{prefix}_{number}"))
        for number, each in enumerate(asked.references)
    )
    numbered = tuple(f"reference {number}" for number, _ in enumerate(references, 1))
    return Entry(asked.prompt, references, asked.subjects or numbered, asked.category, asked.key)


def named(folder: Path, name: str) -> Path:
    """Raises FileNotFoundError unless there is such a file."""
    if not (path := folder / name).is_file():
        raise FileNotFoundError(
            f"no reference {path}{slash_hint(name)}: pass --data, the folder that paths are relative to"
        )
    return path


def written(file: bytes, place: Path) -> Path:
    """Writes a picture's file as it is, its suffix by its format, unless it is there already."""
    with open_picture(io.BytesIO(file), place.name, header=True) as (image, _):
        path = place.with_name(f"{place.name}.{str(image.format).lower()}")
    if not path.is_file() or path.read_bytes() != file:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            partial.write_bytes(file)
    return path
