"""A list -> tar shards (the WebDataset form) and a list of the same form that points into them.

OUT/00000.tar, …: per record KEY.json, KEY.target.EXT, KEY.ref1.EXT, …, the pictures' files unchanged.
OUT/records.json: the list to train from, with the pictures' sizes; paths are SHARD.tar#OFFSET+BYTES, so that
each picture is read, in any order, as one range of one file.
"""

import contextlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from uno_jax.data.entries import DataError
from uno_jax.data.image_files import IN_SHARD, READ_ERRORS, mask_array, read_bytes, read_picture
from uno_jax.data.records import MASK, MAX_BAD_SHARE, PICTURES, SHOWN_PROBLEMS, Record, Records, read_scores
from uno_jax.support.atomic import atomic_write
from uno_jax.support.folder_lock import locked


def pack_records(
    records: Records, out: Path, per_shard: int = 1000, max_bad_share: float = MAX_BAD_SHARE
) -> dict[str, str]:
    """Writes shards of `per_shard` records; returns the bad records left out, by name, with their reasons.

    records.json is written last: without it the folder is incomplete.

    Raises InUseError while another command is at work there; DataError when records.json exists already, and,
    with nothing left that was written, when more than `max_bad_share` of the records are bad, or all.
    """
    scores = read_scores(records)
    entries: list[dict[str, Any]] = []
    bad: dict[str, str] = {}
    with locked(out), _removed_on_failure() as written:
        if (out / "records.json").exists():
            raise DataError(f"{out / 'records.json'} exists; choose another folder")
        with tqdm(total=len(records), unit="record", dynamic_ncols=True) as bar:
            for shard, first in enumerate(range(0, len(records), per_shard)):
                path = out / f"{shard:05d}.tar"
                with atomic_write(path) as partial, tarfile.open(partial, "w") as tar:
                    for index in range(first, min(first + per_shard, len(records))):
                        try:
                            entry = _add_record(tar, path.name, f"{index:09d}", records[index])
                            entries.append(entry | scored(scores[index]))
                        except READ_ERRORS as error:
                            bad[records.name(index)] = str(error)
                            _refuse_bad(bad, len(records), max_bad_share)
                        bar.update()
                written.append(path)
        write_json(out / "records.json", entries)
    return bad


def _refuse_bad(bad: dict[str, str], total: int, max_bad_share: float) -> None:
    if len(bad) > max_bad_share * total or len(bad) == total:
        shown = "; ".join(f"{name}: {why}" for name, why in list(bad.items())[:SHOWN_PROBLEMS])
        raise DataError(f"{len(bad)} of {total} records cannot be read, so nothing was written: {shown}")


@contextlib.contextmanager
def _removed_on_failure() -> Iterator[list[Path]]:
    written: list[Path] = []
    try:
        yield written
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def _add_record(tar: tarfile.TarFile, shard: str, key: str, record: Record) -> dict[str, Any]:
    paths = record.files
    # All are read before any is written: a bad record leaves nothing in the shard.
    files = [read_bytes(path) for path in paths]
    sizes = [read_picture(path).size for path in paths[: 1 + len(record.refs)]]
    if record.mask:
        width, height = sizes[0]
        mask_array(record.mask, (height, width), height / width)
    names = [*PICTURES[: 1 + len(record.refs)], MASK][: len(paths)]
    _add_file(tar, f"{key}.json", json.dumps({"prompt": record.prompt}).encode())
    places = [
        f"{shard}#{_add_file(tar, f'{key}.{name}{_suffix(path)}', file)}+{len(file)}"
        for name, path, file in zip(names, paths, files, strict=True)
    ]
    return {
        "prompt": record.prompt,
        "image_paths": places[1 : 1 + len(record.refs)],
        "image_tgt_path": places[0],
        "image_sizes": sizes,
        **masked(places[-1] if record.mask else ""),
    }


def masked(mask: str) -> dict[str, str]:
    """The part of an entry that names its mask."""
    return {"image_tgt_mask_path": mask} if mask else {}


def scored(score: float | None) -> dict[str, float]:
    """The part of an entry that holds its score."""
    return {} if score is None else {"score": score}


def _add_file(tar: tarfile.TarFile, name: str, content: bytes) -> int:
    """Appends a file; returns the offset of its content in the shard."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
    return tar.offset - -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _suffix(path: str) -> str:
    return ".img" if IN_SHARD.fullmatch(path) else PurePosixPath(path).suffix.lower() or ".img"


def write_json(path: Path, entries: Sequence[Any]) -> None:
    """Writes a JSON list atomically, one entry a line."""
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries) + "\n]\n")
