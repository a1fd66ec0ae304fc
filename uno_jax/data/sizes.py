"""Sizes of pictures that their list does not say: read from the headers once, and kept.

.LIST.sizes.npz          beside the list, what was read for any run; a size counts while its file has the
                         length and the time of change that it had then
WORKDIR/sizes-*.npz      what a run began with, so that it goes on in the same order whatever becomes of the
                         files

Neither is needed: where nothing can be written, sizes are read again.
"""

import contextlib
import dataclasses
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, UInt64
from tqdm import tqdm

from uno_jax.data.entries import DataError
from uno_jax.data.image_files import READ_ERRORS, picture_size, refuse_irregular
from uno_jax.data.records import MAX_BAD_SHARE, Records, refuse_bad, take_rows
from uno_jax.support.atomic import atomic_write

THREADS = 16
CHUNK = 256
SHOWN = 5


class Kept(NamedTuple):
    """Heights/widths of pictures, by the sorted hashes of their paths; `stamps` tell their files' states."""

    paths: UInt64[np.ndarray, " n"]
    stamps: UInt64[np.ndarray, " n"]
    ratios: Float64[np.ndarray, " n"]


NOTHING = Kept(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0))


class Sized(NamedTuple):
    """Records with the ratios of all their pictures, and what `keep_sizes` writes: the whole table that they
    come from, NaN for those that were left out. `table` is None where nothing had to be read.
    """

    records: Records
    table: Float64[np.ndarray, "r pictures"] | None
    began: Path


def with_sizes(listed: Records, workdir: Path, max_bad_share: float = MAX_BAD_SHARE) -> Sized:
    """The records with the ratios of all their pictures, as the run in `workdir` began with them; those with
    an unreadable picture are left out and reported.

    Raises DataError when more than `max_bad_share` of a list's entries are, or all.
    """
    began = workdir / f"sizes-{listed.fingerprint()}.npz"
    if not unknown(listed).any():
        return Sized(listed, None, began)
    found = _load(began, ("ratios",))
    if found and found["ratios"].shape == listed.ratios.shape:
        return Sized(readable(listed, found["ratios"]), None, began)
    ratios, reasons = read_ratios(listed)
    for number, source in enumerate(listed.sources):
        own = {int(listed.entry[row]): why for row, why in reasons.items() if listed.source[row] == number}
        refuse_bad(source.path, own, source.entries, source.entries, max_bad_share)
    for row in islice(reasons, SHOWN):
        tqdm.write(f"left out {listed.name(row)}: {reasons[row]}")
    if len(reasons) > SHOWN:
        tqdm.write(f"left out {len(reasons) - SHOWN} more")
    records = readable(listed, ratios)
    if not len(records):
        raise DataError(f"no record of {', '.join(source.path for source in listed.sources)} can be read")
    return Sized(records, ratios, began)


def keep_sizes(sized: Sized) -> None:
    """Writes what a run begins with into its working directory, once it is known to begin."""
    if sized.table is not None:
        _save(sized.began, {"ratios": sized.table})


def unknown(records: Records) -> Bool[np.ndarray, " r"]:
    """Which records have a picture of unknown size, but for lists whose targets have one given size."""
    used = np.arange(records.ratios.shape[1]) <= records.refs[:, None]
    sized = np.array([source.size is not None for source in records.sources])[records.source]
    missing: np.ndarray = (np.isnan(records.ratios) & used).any(axis=1) & ~sized
    return missing


def readable(listed: Records, ratios: Float64[np.ndarray, "r pictures"]) -> Records:
    """The records with these ratios, without those whose pictures' stay unknown."""
    filled = dataclasses.replace(listed, ratios=ratios)
    rows = np.flatnonzero(~unknown(filled))
    return filled if len(rows) == len(filled) else take_rows(filled, rows)


def read_ratios(records: Records) -> tuple[Float64[np.ndarray, "r pictures"], dict[int, str]]:
    """The table of ratios, filled; and why those of some rows stay unknown."""
    ratios, reasons = records.ratios.copy(), dict[int, str]()
    rows = np.flatnonzero(unknown(records))
    for number, source in enumerate(records.sources):
        own = [int(row) for row in rows if records.source[row] == number]
        places: dict[str, list[tuple[int, int]]] = {}
        for row in own:
            record = records[row]
            for column, path in enumerate((record.target, *record.refs)):
                places.setdefault(path, []).append((row, column))
        cache = None if "://" in source.path else _beside(Path(source.path))
        for path, ratio in zip(places, read_pictures(list(places), cache), strict=True):
            for row, column in places[path]:
                if isinstance(ratio, str):
                    reasons.setdefault(row, ratio)
                else:
                    ratios[row, column] = ratio
    ratios[list(reasons)] = np.nan
    return ratios, dict(sorted(reasons.items()))


def read_pictures(paths: Sequence[str], cache: Path | None) -> list[float | str]:
    """Height/width of each picture, or why it cannot be read; from `cache` where that still holds."""
    kept = _kept(cache)

    def read(chunk: Sequence[str]) -> list[tuple[int, int, float | str]]:
        return [_read_one(path, kept) for path in chunk]

    found: list[tuple[int, int, float | str]] = []
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    with (
        ThreadPoolExecutor(THREADS) as pool,
        tqdm(total=len(paths), desc="reading sizes", unit="picture", dynamic_ncols=True) as bar,
    ):
        for part in pool.map(read, chunks):
            found += part
            bar.update(len(part))
    good = [(key, stamp, ratio) for key, stamp, ratio in found if not isinstance(ratio, str)]
    if cache and good:
        keys, stamps, ratios = zip(*good, strict=True)
        _keep(cache, kept, Kept(np.array(keys, np.uint64), np.array(stamps, np.uint64), np.array(ratios)))
    return [ratio for _, _, ratio in found]


def _read_one(path: str, kept: Kept) -> tuple[int, int, float | str]:
    key, stamp = _number(path), 0
    try:
        if file := refuse_irregular(path):
            state = file.stat()
            stamp = _number(f"{state.st_size} {state.st_mtime_ns}")
        at = int(np.searchsorted(kept.paths, np.uint64(key)))
        if at < len(kept.paths) and int(kept.paths[at]) == key and int(kept.stamps[at]) == stamp:
            return key, stamp, float(kept.ratios[at])
        width, height = picture_size(path)
        return key, stamp, height / width
    except FileNotFoundError:
        return key, stamp, f"{path}: no such picture"
    except READ_ERRORS as error:
        return key, stamp, str(error)


def _number(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.sizes.npz")


def _kept(cache: Path | None) -> Kept:
    found = _load(cache, Kept._fields) if cache else None
    if not found or len({array.shape for array in found.values()}) != 1:
        return NOTHING
    return Kept(**found)


def _keep(cache: Path, old: Kept, new: Kept) -> None:
    """Writes what was read before and now, of a path the newer."""
    joined = [np.concatenate(columns) for columns in zip(new, old, strict=True)]
    paths, firsts = np.unique(joined[0], return_index=True)
    merged = Kept(paths, joined[1][firsts], joined[2][firsts])
    if not all(np.array_equal(a, b) for a, b in zip(merged, old, strict=True)):
        _save(cache, merged._asdict())


def _load(path: Path, names: Sequence[str]) -> dict[str, np.ndarray] | None:
    """The arrays of a file; None where it is absent or damaged."""
    try:
        with np.load(path) as file:
            return {name: file[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with contextlib.suppress(OSError), atomic_write(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
