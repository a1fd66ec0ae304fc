"""SHA-256 digests of a folder's files, written beside them in digests.json and checked before the files are
used, so that a damaged array is reported and not computed with.

A folder without digests.json, as versions before 0.3 wrote them, is used unchecked.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple

from uno_jax.support.atomic import atomic_write
from uno_jax.support.json_files import JsonFault, check_fields, read_json
from uno_jax.support.regular_file import check_regular_file

NAME = "digests.json"
FORMAT = 1
# hashlib lets other threads run; a core does about 1 GB/s, so that more threads would wait for the disk.
THREADS = min(8, os.cpu_count() or 1)
SHOWN = 3  # files that an error names


class Digest(NamedTuple):
    """The size in bytes of a file and its SHA-256; size None: not recorded."""

    size: int | None
    sha256: str


Digests = dict[str, Digest]  # by paths relative to the folder, with "/"


def file_hash(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as whole:
        return hashlib.file_digest(whole, "sha256").hexdigest()


def write_digests(
    folder: Path, without: Iterable[str] = (), known: Mapping[Path, str] = MappingProxyType({})
) -> None:
    """Writes digests.json for all files in `folder`, except those of the paths `without`. `known` are SHA-256
    of files in it that were made while they were written: these are not read again.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in paths]
    names = [name for name in names if name not in {NAME, *without}]
    with ThreadPoolExecutor(THREADS) as pool:
        hashes = list(pool.map(lambda name: known.get(folder / name) or file_hash(folder / name), names))
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256}
        for name, sha256 in zip(names, hashes, strict=True)
    }
    with atomic_write(folder / NAME) as partial:
        partial.write_text(json.dumps({"format": FORMAT, "files": files}, indent=1) + "\n")


def read_digests(folder: Path, fault: JsonFault) -> Digests:
    """What digests.json records; nothing where there is none.

    Raises what `fault` makes of a message for anything but such a file.
    """
    path = folder / NAME
    if not path.is_file():
        return {}
    record = check_fields(read_json(path, fault), {"format": int, "files": dict[str, Any]}, str(path), fault)
    if record["format"] != FORMAT:
        raise fault(f"{path} has format {record['format']}; this program reads format {FORMAT}")
    found = {}
    for name, entry in record["files"].items():
        values = check_fields(entry, {"bytes": int, "sha256": str}, f"{path}: {name!r:.80}", fault)
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise fault(f"{path} names a file outside of its folder: {name!r:.80}")
        found[name] = Digest(values["bytes"], values["sha256"])
    return found


def check_digests(folder: Path, digests: Mapping[str, Digest], fault: JsonFault) -> None:
    """Raises what `fault` makes of a message that names the files which are missing or not as written."""
    with ThreadPoolExecutor(THREADS) as pool:
        problems = list(pool.map(lambda name: _problem(folder / name, digests[name]), digests))
    wrong = [f"{folder / name} {problem}" for name, problem in zip(digests, problems, strict=True) if problem]
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise fault(f"{'; '.join(wrong[:SHOWN])}{more}")


def _problem(path: Path, digest: Digest) -> str:
    """What is wrong with a file; empty where nothing is."""
    if not path.is_file():
        return "is missing"
    check_regular_file(path)
    if digest.size not in (None, size := path.stat().st_size):
        return f"is damaged: {size} bytes where {digest.size} were written"
    return "" if file_hash(path) == digest.sha256 else "is damaged: its bytes are not those that were written"
