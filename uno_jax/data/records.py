"""Lists of training pairs -> Records: a table that holds millions of them in little memory.

Reading parses the list and opens no picture: entries that cannot be used are left out and counted, and a
hundred of the pictures are looked up, so that a wrong folder is found at once.
"""

import os
import zlib
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt8
from numpy.typing import ArrayLike

from uno_jax.data.config import DataConfig, SourceConfig
from uno_jax.data.entries import (
    MAX_REFS,
    DataError,
    Entry,
    label_threshold,
    parse_entry,
    paths_of,
    score_of,
)
from uno_jax.data.image_files import exists, join_path, parent, picture_ratio, slash_hint
from uno_jax.data.list_files import read_entries
from uno_jax.data.subject_folders import folder_entries
from uno_jax.support import images
from uno_jax.support.words import counted

SHOWN_PROBLEMS = 5
PROBED = 100
MASK = "mask"
PICTURES = ("target", *(f"ref{number}" for number in range(1, 1 + MAX_REFS)))
MAX_BAD_SHARE = DataConfig().max_bad_share


class Record(NamedTuple):
    """One training sample, its paths resolved: local, URLs, or parts of a shard (see `image_files`)."""

    prompt: str
    refs: tuple[str, ...]
    target: str
    mask: str = ""
    """Empty where the list names none."""

    @property
    def files(self) -> tuple[str, ...]:
        """Target, references and, if there is one, the mask."""
        return (self.target, *self.refs, *((self.mask,) if self.mask else ()))


@dataclass(frozen=True)
class Source:
    """A list that records come from. `folder` is where its pictures are; `weight` counts relative to that of
    the other sources; `bad` maps entries to why they were left out; `below_score` counts those left out for
    their score; `size` is (height, width) of every target, None where buckets decide; `min_score` is the
    recipe's.
    """

    path: str
    folder: str
    weight: float
    entries: int
    bad: dict[int, str]
    below_score: int
    size: tuple[int, int] | None = None
    min_score: float | None = None

    def target_size(self, ratio: float, resolution: int) -> tuple[int, int]:
        """(height, width) in pixels of targets whose height/width, or the mean of it, is `ratio`."""
        return self.size or images.ratio_bucket_size(ratio, resolution)


@dataclass(frozen=True)
class Records:
    """A table of r records, of one or several sources."""

    sources: tuple[Source, ...]
    text: bytes
    """Prompt, target, references and, if there is one, mask of each record, separated by NUL."""
    ends: Int64[np.ndarray, " r"]
    """Where each record ends in `text`."""
    source: UInt8[np.ndarray, " r"]
    entry: Int32[np.ndarray, " r"]
    """Index of each record in its list."""
    refs: UInt8[np.ndarray, " r"]
    """Number of references of each record."""
    ratios: Float64[np.ndarray, "r pictures"]
    """Height/width of the target and of each reference; NaN where the list does not say."""

    def __len__(self) -> int:
        return len(self.ends)

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...

    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        index %= len(self)
        start = self.ends[index - 1] if index else 0
        prompt, *paths = self.text[start : self.ends[index]].decode().split("\0")
        folder = self.sources[self.source[index]].folder
        target, *others = (join_path(folder, path) for path in paths)
        refs, mask = others[: self.refs[index]], others[self.refs[index] :]
        return Record(prompt, tuple(refs), target, *mask)

    def name(self, index: int) -> str:
        """A record's name in messages: its list and its index there."""
        return f"{self.sources[self.source[index]].path} record {self.entry[index]}"

    @property
    def encoded(self) -> tuple[str, ...]:
        """Names of a record's cached parts, out of PICTURES, txt and vec; here none."""
        return ()

    def encodings(self, index: int | None) -> dict[str, np.ndarray]:
        """The cached parts of a record (None: of the empty prompt) by these names."""
        return {}

    def fingerprint(self) -> str:
        """Equal for equal records in equal order with equal sizes and weights."""
        weights = np.array([source.weight for source in self.sources])
        check = zlib.crc32(self.text)
        sizes = np.array([source.size for source in self.sources if source.size])
        for column in (self.ends, self.source, self.ratios, weights, sizes):
            check = zlib.crc32(column.tobytes(), check)
        return f"{check:08x}"


Rows = TypeVar("Rows", bound=Records)


def read_records(config: DataConfig) -> Records:
    """The records of every source of a run.

    Raises like `read_list`.
    """
    sources = config.sources or (SourceConfig(config.path),)
    return concatenate([read_source(source, config.max_bad_share) for source in sources])


def read_list(path: str | os.PathLike[str], max_bad_share: float = MAX_BAD_SHARE) -> Records:
    """All records of one JSON list (see `entries`).

    Raises FileNotFoundError, or DataError with the number of problems and the first of them when more than
    `max_bad_share` of the entries, or of the pictures looked up, cannot be used.
    """
    return read_source(SourceConfig(os.fspath(path)), max_bad_share)


def read_source(config: SourceConfig, max_bad_share: float = MAX_BAD_SHARE) -> Records:
    """`read_list` with a source's folder, weight and score threshold."""
    records = parse_source(config)
    (source,) = records.sources
    refuse_bad(source.path, source.bad, source.entries, source.entries, max_bad_share)
    if not len(records):
        least = label_threshold(config.min_score)
        why = f": the scores of all {source.below_score} are below {least}"
        raise DataError(f"{source.path} must be a list of at least one record{why * bool(source.entries)}")
    probed = np.unique(np.linspace(0, len(records) - 1, PROBED).astype(int))
    missing = _missing(records, probed)
    refuse_bad(source.path, missing, len(probed), len(records), max_bad_share)
    return records


def parse_source(config: SourceConfig) -> Records:
    """The usable records of a list or a folder of subjects, however many of its entries are bad.

    Raises FileNotFoundError, or DataError for what is not a list.
    """
    text, ends, entries, refs, ratios = bytearray(), array("q"), array("i"), array("B"), array("d")
    bad: dict[int, str] = {}
    index, below = -1, 0
    for index, raw in enumerate(_raw_entries(config.path)):  # noqa: B007
        try:
            entry = parse_entry(raw, config.min_score)
        except DataError as error:
            bad[index] = str(error)
            continue
        if entry is None:
            below += 1
            continue
        text += "\0".join((entry.prompt, *paths_of(entry))).encode()
        ends.append(len(text))
        entries.append(index)
        refs.append(len(entry.refs))
        ratios.extend(_padded(entry))
    first = text[: ends[0]].decode().split("\0")[1] if ends else ""
    folder = _picture_folder(config, first)
    return Records(
        (Source(config.path, folder, config.weight, index + 1, bad, below, config.size, config.min_score),),
        bytes(text),
        np.array(ends, np.int64),
        np.zeros(len(ends), np.uint8),
        np.array(entries, np.int32),
        np.array(refs, np.uint8),
        np.array(ratios, np.float64).reshape(-1, 1 + MAX_REFS),
    )


def _raw_entries(path: str) -> Iterator[Any]:
    """The entries of a list's file or of a folder of subjects."""
    return folder_entries(Path(path)) if os.path.isdir(path) else read_entries(path)


def _picture_folder(config: SourceConfig, target: str) -> str:
    """The folder of a list's pictures: its own, or images/ beside it or above it, as UNO-1M is published,
    where only that has the first target; a folder of subjects itself.
    """
    if os.path.isdir(config.path):
        return join_path(config.path, config.root)
    folder = join_path(parent(config.path), config.root)
    if target and not config.root and not exists(join_path(folder, target)):
        above = parent(folder.rstrip("/")) if folder else ".."
        for images_folder in (join_path(folder, "images"), join_path(above, "images")):
            if exists(join_path(images_folder, target)):
                return images_folder
    return folder


def read_scores(records: Records) -> list[float | None]:
    """The score of each record of a single list, None where it has none; the list is read again."""
    (source,), kept = records.sources, set(records.entry.tolist())
    return [score_of(entry) for index, entry in enumerate(_raw_entries(source.path)) if index in kept]


def picture_ratios(records: Records, index: int) -> list[float]:
    """Height/width of a record's target and references, from the list or the pictures' headers.

    Raises READ_ERRORS where a header cannot be read.
    """
    known = records.ratios[index, : 1 + records.refs[index]]
    if not np.isnan(known).any():
        return [float(ratio) for ratio in known]
    record = records[index]
    return [picture_ratio(path) for path in (record.target, *record.refs)]


UNKNOWN = (float("nan"),) * (1 + MAX_REFS)


def _padded(entry: Entry) -> tuple[float, ...]:
    return UNKNOWN if entry.ratios is None else (*entry.ratios, *UNKNOWN)[: 1 + MAX_REFS]


def _missing(records: Records, probed: np.ndarray) -> dict[int, str]:
    def problem(index: int) -> str:
        record = records[index]
        files = [path for path in record.files if not exists(path)]
        paths = ", ".join(files)
        return f"no picture at {paths}{slash_hint(paths)}" if files else ""

    with ThreadPoolExecutor(16) as pool:
        found = zip(records.entry[probed], pool.map(problem, probed.tolist()), strict=True)
        return {int(entry): why for entry, why in found if why}


def refuse_bad(path: str, bad: dict[int, str], looked_at: int, total: int, max_bad_share: float) -> None:
    """Raises DataError, with the first reasons, when more than `max_bad_share` of `looked_at` are bad."""
    if len(bad) > max_bad_share * looked_at:
        shown = "; ".join(f"record {index}: {why}" for index, why in list(bad.items())[:SHOWN_PROBLEMS])
        of = str(total) if looked_at == total else f"the {looked_at} looked up"
        raise DataError(f"{path} has {counted(len(bad), 'bad record')} of {of}: {shown}")


def check_masks(records: Records, data: DataConfig) -> None:
    """Raises DataError where masks have a weight, but no record has one."""
    if data.mask_weight != 1 and records.text.count(b"\0") <= len(records) + int(records.refs.sum()):
        again = " and encode it again" * bool(data.encodings)
        raise DataError(
            f"data.mask_weight is {data.mask_weight:g}, but no record has a mask: add image_tgt_mask_path to "
            f"entries of a list in UNO's own form{again}, or leave mask_weight out"
        )


def take_rows(records: Rows, rows: ArrayLike) -> Rows:
    """The table of some rows."""
    chosen = np.asarray(rows, np.int64)
    texts = [records.text[records.ends[row - 1] if row else 0 : records.ends[row]] for row in chosen]
    return replace(
        records,
        text=b"".join(texts),
        ends=np.cumsum([len(text) for text in texts], dtype=np.int64),
        source=records.source[chosen],
        entry=records.entry[chosen],
        refs=records.refs[chosen],
        ratios=records.ratios[chosen],
    )


def concatenate(parts: Sequence[Records]) -> Records:
    """One table of several, in their order."""
    lengths = np.cumsum([0, *(len(part.text) for part in parts)])
    firsts = np.cumsum([0, *(len(part.sources) for part in parts)])
    return Records(
        tuple(source for part in parts for source in part.sources),
        b"".join(part.text for part in parts),
        np.concatenate([part.ends + start for part, start in zip(parts, lengths, strict=False)]),
        np.concatenate(
            [(part.source + first).astype(np.uint8) for part, first in zip(parts, firsts, strict=False)]
        ),
        np.concatenate([part.entry for part in parts]),
        np.concatenate([part.refs for part in parts]),
        np.concatenate([part.ratios for part in parts]),
    )


def each_picture(records: Records) -> Records:
    """Every picture of the records once, as a target of its own: what an autoencoder learns from."""
    seen: set[tuple[int, str]] = set()
    text, ends, rows, columns = bytearray(), array("q"), array("q"), array("B")
    for index in range(len(records)):
        start = records.ends[index - 1] if index else 0
        _, *paths = records.text[start : records.ends[index]].decode("utf-8", "surrogatepass").split("\0")
        for column, path in enumerate(paths[: 1 + records.refs[index]]):
            if (key := (int(records.source[index]), path)) not in seen:
                seen.add(key)
                text += f"\0{path}".encode("utf-8", "surrogatepass")
                ends.append(len(text))
                rows.append(index)
                columns.append(column)
    kept = np.array(rows)
    ratios = np.full((len(kept), 1 + MAX_REFS), np.nan)
    ratios[:, 0] = records.ratios[kept, np.array(columns)]
    return Records(
        records.sources,
        bytes(text),
        np.array(ends, np.int64),
        records.source[kept],
        records.entry[kept],
        np.zeros(len(kept), np.uint8),
        ratios,
    )
