"""Whether the files of a stored network or LoRA are those that were written, checked before arrays are read.

UNO_JAX_VERIFY says when: "auto" hashes everything up to LARGE at each load, which takes a second at most, and
larger networks at the first load on this machine and whenever one of their files has changed since; "always"
hashes everything at each load; "never" nothing.
"""

import contextlib
import hashlib
import os
from pathlib import Path

from uno_jax.support.compile_cache import cache_folder
from uno_jax.support.digests import Digest, Digests, check_digests, read_digests
from uno_jax.support.errors import CheckpointError
from uno_jax.support.json_files import check_fields, read_json

SETTING, MODES = "UNO_JAX_VERIFY", ("auto", "always", "never")
LARGE = 1_000_000_000  # bytes
COMPACT = "params.safetensors"  # the parameters in one file


def damaged(message: str) -> CheckpointError:
    """The error for files that are not as they were written."""
    return CheckpointError(
        f"{message}. Copy or make the folder again; if the change was meant, remove its digests.json"
    )


def check_record(directory: Path) -> None:
    """Raises CheckpointError where config.json is not as it was written."""
    known = {} if verification() == "never" else read_digests(directory, CheckpointError)
    if "config.json" in known:
        check_digests(directory, {"config.json": known["config.json"]}, damaged)


def check_files(directory: Path) -> None:
    """Raises CheckpointError naming the files of a network or a LoRA that are not as they were written."""
    mode = verification()
    known = {} if mode == "never" else known_digests(directory)
    if not known:
        return
    size = sum(path.stat().st_size for name in known if (path := directory / name).is_file())
    mark = None if mode == "always" or size <= LARGE else _mark(directory, known)
    if mark is not None and mark.exists():
        return
    check_digests(directory, known, damaged)
    if mark is not None:
        with contextlib.suppress(OSError):  # a cache that cannot be written is one that remembers nothing
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()


def known_digests(directory: Path) -> Digests:
    """The digests of digests.json, and of params_sha256 in config.json, which `uno-convert pack` writes.

    Raises CheckpointError for a damaged record.
    """
    known = read_digests(directory, CheckpointError)
    path = directory / "config.json"
    if not (directory / COMPACT).is_file() or not path.is_file():
        return known
    record = check_fields(read_json(path, CheckpointError), {}, str(path), CheckpointError)
    if "params_sha256" in record:
        check_fields(record, {"params_sha256": str}, str(path), CheckpointError)
        digest = known.setdefault(COMPACT, Digest(None, record["params_sha256"]))
        if digest.sha256 != record["params_sha256"]:
            raise CheckpointError(
                f"{directory}: digests.json and config.json (params_sha256) disagree about {COMPACT}, so one "
                "of the two is damaged; copy or make the folder again"
            )
    return known


def verification() -> str:
    """The mode that the environment asks for.

    Raises CheckpointError for an unknown one.
    """
    mode = os.environ.get(SETTING) or MODES[0]
    if mode not in MODES:
        raise CheckpointError(f"{SETTING} must be one of {', '.join(MODES)}, got {mode!r:.60}")
    return mode


def _mark(directory: Path, known: Digests) -> Path:
    """An empty file whose name says that these files were checked. A file that is written, copied or moved
    here gets another time of change (ctime), which programs cannot set.
    """
    about = hashlib.sha256(str(directory.resolve()).encode("utf-8", "surrogateescape"))
    for name, digest in sorted(known.items()):
        path = directory / name
        stat = path.stat() if path.is_file() else None
        facts = stat and (stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)
        about.update(repr((name, digest, facts)).encode("utf-8", "surrogatepass"))
    return cache_folder() / "verified" / about.hexdigest()
