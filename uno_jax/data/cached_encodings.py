"""Cached encodings: what `uno-encode` writes and `data.encodings` trains from.

DIR/encodings.json        what was encoded, and by which networks (`Info`)
DIR/empty.safetensors     txt and vec of the empty prompt, for text dropout
DIR/00000.array_record, … `per_shard` entries of the lists each, those that can be used: first their part of
                          the table of records, then for each the arrays target, ref1, …, txt, vec, and mask
                          where the list names one

Records are safetensors' bytes. A shard appears when it is complete; with all of them the directory is.
"""

import dataclasses
import json
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from jaxtyping import Int32

from uno_jax.data.config import SourceConfig
from uno_jax.data.entries import DataError
from uno_jax.data.records import PICTURES, Records, Source, concatenate, take_rows
from uno_jax.families.registry import all_encoders
from uno_jax.support.atomic import atomic_write
from uno_jax.support.errors import CheckpointError, RecipeError
from uno_jax.support.json_files import check_fields, parse_json, read_json
from uno_jax.support.settings import from_dict
from uno_jax.weights.safetensors_file import from_bytes, to_bytes

FORMAT = 1
EMPTY = "empty.safetensors"
COLUMNS = ("ends", "source", "entry", "refs", "ratios")
# Every record can be read alone; encodings hardly compress.
WRITING = "group_size:1,uncompressed"
READING = "readahead_buffer_size:0,max_parallelism:0"
OPEN_SHARDS = 256

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Info:
    """encodings.json. `encoders` maps each encoder that was run to its config and a
    fingerprint of its weights.
    """

    encoders: dict[str, dict[str, Any]]
    dtype: str
    resolution: int
    ref_resolution: int
    sources: list[dict[str, Any]]
    records: int
    """Number of the lists' records, including those that turned out bad."""
    fingerprint: str
    """Fingerprint of the lists' records."""
    per_shard: int
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.per_shard < 1 or not 0 <= self.records < 1 << 31:
            raise ValueError(f"{self.records} records cannot be in shards of {self.per_shard}")
        known = all_encoders()
        if unknown := sorted(self.encoders.keys() - known):
            raise ValueError(f"unknown encoders {', '.join(unknown)}; there are {', '.join(known)}")
        for kind, encoder in self.encoders.items():
            check_fields(encoder, {"config": dict, "weights": str}, kind)
        for source in self.sources:
            _source(source)

    @property
    def shards(self) -> int:
        return -(-self.records // self.per_shard)


class Table(NamedTuple):
    """A shard's records, and the names of those left out with the reasons."""

    records: Records
    bad: dict[str, str]


@dataclass(frozen=True)
class EncodedRecords(Records):
    """Records of a complete directory of encodings."""

    folder: Path
    info: Info
    shard: Int32[np.ndarray, " r"]
    place: Int32[np.ndarray, " r"]
    """Index of each record in its shard."""
    empty: Arrays

    @property
    def encoded(self) -> tuple[str, ...]:
        made = [encoder.text for kind, encoder in all_encoders().items() if kind in self.info.encoders]
        return tuple(name for text in made for name in ((text,) if text else PICTURES))

    def encodings(self, index: int | None) -> Arrays:
        """See `Records.encodings`.

        Raises DataError for a damaged shard.
        """
        if index is None:
            return self.empty
        path = shard_path(self.folder, int(self.shard[index]))
        return _arrays(_read(path, int(self.place[index])), path)

    def fingerprint(self) -> str:
        return f"{super().fingerprint()}{zlib.crc32(json.dumps(dataclasses.asdict(self.info)).encode()):08x}"


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.array_record"


def read_info(folder: Path) -> Info:
    """The description of a directory of encodings.

    Raises FileNotFoundError, or DataError for anything but such a directory.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no encodings at {folder}; make them with uno-encode")
    path = folder / "encodings.json"
    try:
        info = from_dict(Info, read_json(path, DataError))
    except FileNotFoundError:
        raise DataError(f"{folder} has no encodings.json: it holds no encodings") from None
    except ValueError as error:
        raise DataError(f"{path} does not describe encodings: {error}") from None
    if info.format != FORMAT:
        raise DataError(f"{folder} has format {info.format}; this program reads format {FORMAT}")
    return info


def write_info(folder: Path, info: Info) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write_bytes(folder / "encodings.json", (json.dumps(dataclasses.asdict(info), indent=1) + "\n").encode())


def write_empty(folder: Path, arrays: Arrays) -> None:
    """Writes the encodings of the empty prompt."""
    _write_bytes(folder / EMPTY, to_bytes(arrays))


def has_empty(folder: Path) -> bool:
    return (folder / EMPTY).is_file()


def missing_files(folder: Path, info: Info) -> list[str]:
    """Names of the files that are still to be written."""
    paths = [folder / EMPTY, *(shard_path(folder, number) for number in range(info.shards))]
    return [path.name for path in paths if not path.is_file()]


def read_encodings(directory: str, sources: Sequence[SourceConfig] = ()) -> EncodedRecords:
    """The records that a run trains from: those of its `sources`, which are some of the encoded lists in any
    order, with their weights; if it names none, those of every list.

    Raises as `read_info`, DataError while shards are missing, RecipeError for sources that are not encoded.
    """
    folder = Path(directory)
    info = read_info(folder)
    if missing := missing_files(folder, info):
        raise DataError(
            f"{folder} is incomplete: it lacks {len(missing)} of {info.shards + 1} files, the first is "
            f"{missing[0]}; run the command that began it again"
        )
    with ThreadPoolExecutor(16) as pool:
        tables = list(pool.map(lambda number: read_table(folder, number).records, range(info.shards)))
    records = concatenate(tables)
    counts = [len(table) for table in tables]
    columns = {field.name: getattr(records, field.name) for field in dataclasses.fields(Records)}
    columns["sources"] = tuple(_source(source) for source in info.sources)
    whole = EncodedRecords(
        **columns,
        folder=folder,
        info=info,
        shard=np.repeat(np.arange(info.shards, dtype=np.int32), counts),
        place=np.concatenate([np.arange(count, dtype=np.int32) for count in counts]),
        empty=_arrays((folder / EMPTY).read_bytes(), folder / EMPTY),
    )
    chosen = _of_sources(whole, sources) if sources else whole
    if not len(chosen):
        of = f" of {', '.join(source.path for source in sources)}" * bool(sources)
        raise DataError(f"{folder} holds no records{of}: all were bad")
    return chosen


def _source(recorded: dict[str, Any]) -> Source:
    return from_dict(Source, recorded | {"bad": {}})


def _of_sources(records: EncodedRecords, named: Sequence[SourceConfig]) -> EncodedRecords:
    """The records of the `named` sources, in the order in which they were encoded."""
    numbers = _encoded_numbers(records, named)
    sources = tuple(
        dataclasses.replace(records.sources[number], weight=wanted.weight)
        for number, wanted in zip(numbers, named, strict=True)
    )
    rows = np.flatnonzero(np.isin(records.source, numbers))
    kept = records if len(rows) == len(records) else take_rows(records, rows)
    renumbered = np.zeros(len(records.sources), np.uint8)
    renumbered[numbers] = np.arange(len(numbers), dtype=np.uint8)
    return dataclasses.replace(
        kept,
        sources=sources,
        source=renumbered[kept.source],
        shard=records.shard[rows],
        place=records.place[rows],
    )


def _encoded_numbers(records: EncodedRecords, named: Sequence[SourceConfig]) -> list[int]:
    """Which of the encoded lists each named one is, none of them twice."""
    there = [(source.path, source.min_score) for source in records.sources]
    numbers: list[int] = []
    for wanted in ((source.path, source.min_score) for source in named):
        free = [number for number, each in enumerate(there) if each == wanted and number not in numbers]
        if not free:
            raise RecipeError(
                f"data.path or data.sources names the list (path, min_score) {wanted}, but the encodings "
                f"{records.folder} are of {there}; encode it with uno-encode, or leave it out"
            )
        numbers.append(free[0])
    return numbers


def write_shard(folder: Path, number: int, table: Table, samples: Iterable[Arrays]) -> None:
    """Writes a shard atomically.

    Raises OSError when it cannot be written.
    """
    path = shard_path(folder, number)
    first: Arrays = {name: getattr(table.records, name) for name in COLUMNS}
    first["text"] = np.frombuffer(table.records.text, np.uint8)
    first["bad"] = np.frombuffer(json.dumps(table.bad).encode(), np.uint8)
    try:
        with atomic_write(path) as partial:
            writer = ArrayRecordWriter(str(partial), WRITING)
            for arrays in (first, *samples):
                writer.write(to_bytes(arrays))
            writer.close()
    except RuntimeError as error:
        raise OSError(f"{path} could not be written: {error}") from None


def read_table(folder: Path, number: int) -> Table:
    """A shard's part of the table, with empty `sources`.

    Raises DataError for a damaged shard.
    """
    path = shard_path(folder, number)
    found = _arrays(_read(path, -1), path)
    if missing := {*COLUMNS, "text", "bad"} - found.keys():
        raise DataError(f"{path} lacks {', '.join(sorted(missing))}; remove it and encode again")
    columns = {name: found[name] for name in COLUMNS}
    bad = parse_json(found["bad"].tobytes(), f"{path}, bad", DataError)
    return Table(Records((), found["text"].tobytes(), **columns), bad)


def select_rows(records: Records, rows: Sequence[int], ratios: Sequence[Sequence[float]]) -> Records:
    """The table of some rows, with the ratios of their pictures filled in and empty `sources`."""
    known = np.full((len(rows), records.ratios.shape[1]), np.nan)
    for row, values in zip(known, ratios, strict=True):
        row[: len(values)] = values
    return dataclasses.replace(take_rows(records, rows), sources=(), ratios=known)


def _write_bytes(path: Path, content: bytes) -> None:
    with atomic_write(path) as partial:
        partial.write_bytes(content)


@lru_cache(maxsize=OPEN_SHARDS)
def _open(path: Path) -> ArrayRecordReader:
    return ArrayRecordReader(str(path), READING)


def _read(path: Path, place: int) -> bytes:
    """The bytes of a shard's record `place`; -1: of its table."""
    try:
        return bytes(_open(path).read([1 + place])[0])
    except (RuntimeError, IndexError) as error:
        raise DataError(f"{path} is damaged; remove it and encode again ({error})") from None


def _arrays(content: bytes, path: Path) -> Arrays:
    try:
        return from_bytes(content, path)
    except CheckpointError as error:
        raise DataError(f"{error}; remove it and encode again") from None
