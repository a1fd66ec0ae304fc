"""Sources: a safetensors file, a folder with one or with shards, or a pipeline; and its config.json."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from uno_jax.support.json_files import read_object
from uno_jax.weights.peft_config import IN_FOLDERS
from uno_jax.weights.safetensors_file import PICKLE_SUFFIXES, read_header

from .mapping import ConversionError

PLAIN_INDEX = ".safetensors.index.json"
# A variant's: NAME.safetensors.index.VARIANT.json, or in older files NAME.safetensors.VARIANT.index.json.
INDEX = re.compile(r".*\.safetensors(\.[\w-]+)?\.index(\.[\w-]+)?\.json")
SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.[\w-]+)?\.safetensors")
WHOLE = (  # what the folder's own program would load
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    *IN_FOLDERS,
)


class Tensor(Protocol):
    """A tensor of a file, read by rows; also `uno_jax.weights.safetensors_file.Tensor`."""

    @property
    def stored(self) -> str:
        """The dtype as safetensors name it; only those of `safetensors_file.DTYPES` are read."""

    @property
    def dtype(self) -> np.dtype: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def nbytes(self) -> int: ...

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray: ...

    def read_into(self, out: np.ndarray, start: int = 0) -> None: ...


@dataclass(frozen=True)
class Source:
    """The tensors and metadata of a file or folder, and the config.json beside it (empty if none)."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    """The safetensors files."""


def open_source(path: Path, folder: str = "", without: Collection[str] = ()) -> Source:
    """Opens a safetensors file, a folder with one (or with shards and an index), or a pipeline's `folder`.
    Files of the names `without` are not those that are looked for in a folder.

    Raises FileNotFoundError for a missing source or shard, CheckpointError for anything but safetensors.
    """
    path = Path(path)
    if path.is_dir() and folder and (path / folder).is_dir():
        path = path / folder
    if not path.exists():
        raise FileNotFoundError(
            f"no source {path}: expected a file, a folder, or a name on the hub, owner/name"
        )
    files = (
        _files(path, without) if path.is_dir() else _indexed(path) if INDEX.fullmatch(path.name) else [path]
    )
    if missing := [file.name for file in files if not file.exists()]:
        raise FileNotFoundError(f"{path} names missing shards: {', '.join(missing)}")
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for file in files:
        found, about = read_header(file)
        if double := sorted(found.keys() & tensors.keys()):
            raise ConversionError(f"{file} repeats tensors of another shard: {', '.join(double[:4])}")
        tensors |= found
        metadata |= about
    beside = files[0].parent / "config.json"
    return Source(path, tensors, metadata, read_json(beside) if beside.is_file() else {}, tuple(files))


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises FileNotFoundError, or ConversionError when it is not one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    return read_object(path, {}, ConversionError)


def _files(folder: Path, without: Collection[str]) -> list[Path]:
    """The safetensors files of a folder, in order: those of its index, the one that its program would load,
    those of a variant's index, the only one, or all shards of one file.
    """
    present = sorted(path for path in folder.glob("*.safetensors") if path.name not in without)
    found = [path for path in sorted(folder.glob("*.json")) if INDEX.fullmatch(path.name)]
    # A folder may also hold another precision (model.fp16.safetensors): the shorter name comes first.
    indexes = sorted(found, key=lambda path: len(path.name))
    shards = [_indexed(index) for index in indexes]
    plain = [files for index, files in zip(indexes, shards, strict=True) if index.name.endswith(PLAIN_INDEX)]
    whole = [[folder / name] for name in WHOLE if (folder / name) in present]
    missing = _missing_shards(present)
    alone = [present] if missing == [] or (missing is None and len(present) == 1) else []
    candidates = [*plain, *whole, *shards, *(alone if not indexes else [])]
    complete = [files for files in candidates if all(file.is_file() for file in files)]
    if complete:
        return complete[0]
    if indexes:
        absent = [file.name for file in shards[0] if not file.is_file()]
        raise FileNotFoundError(f"{indexes[0]} names missing shards: {', '.join(absent)}")
    if missing:
        raise FileNotFoundError(f"{folder} lacks shards of {present[0].name}: {', '.join(missing)}")
    if present:
        names = ", ".join(file.name for file in present)
        raise ConversionError(
            f"{folder} holds several safetensors files without an index ({names}): give one of them, or the "
            "index of their shards"
        )
    if pickles := [file.name for file in sorted(folder.iterdir()) if file.suffix in PICKLE_SUFFIXES]:
        return [folder / pickles[0]]  # its reader explains why it is refused
    raise FileNotFoundError(f"{folder} holds no .safetensors file")


def _indexed(index: Path) -> list[Path]:
    """The files that an index names.

    Raises ConversionError.
    """
    weights = read_json(index).get("weight_map")
    names = set(weights.values()) if isinstance(weights, dict) and _are_texts(weights.values()) else set()
    if not names or any(Path(name).name != name for name in names):
        raise ConversionError(f"{index} has no weight_map that gives a file of its folder for each tensor")
    return [index.parent / name for name in sorted(names)]


def _are_texts(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _missing_shards(files: list[Path]) -> list[str] | None:
    """The names of the shards that are absent beside these; None where the files are not shards of one."""
    found = [shard for file in files if (shard := SHARD.fullmatch(file.name))]
    if len(found) < len(files) or len({(shard[1], shard[3], shard[4]) for shard in found}) != 1:
        return None
    stem, count, variant = found[0][1], found[0][3], found[0][4] or ""
    wanted = [f"{stem}-{number:05}-of-{count}{variant}.safetensors" for number in range(1, int(count) + 1)]
    names = {file.name for file in files}
    return [name for name in wanted if name not in names] if names <= set(wanted) else None
