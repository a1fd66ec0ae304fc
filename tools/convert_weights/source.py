"""Sources: a safetensors file, a folder with one or with shards, or a pipeline; and its config.json."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from uno_jax.support.json_files import read_object
from uno_jax.weights.safetensors_file import PICKLE_SUFFIXES, read_header

from .mapping import ConversionError

INDEX = ".safetensors.index.json"
WHOLE = (  # what the folder's own program would load
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "adapter_model.safetensors",
    "pytorch_lora_weights.safetensors",
)


class Tensor(Protocol):
    """A tensor of a file, read by rows; also `uno_jax.weights.safetensors_file.Tensor`."""

    @property
    def dtype(self) -> np.dtype: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def nbytes(self) -> int: ...

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray: ...


@dataclass(frozen=True)
class Source:
    """The tensors and metadata of a file or folder, and the config.json beside it (empty if none)."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    """The safetensors files."""


def open_source(path: Path, folder: str = "") -> Source:
    """Opens a safetensors file, a folder with one (or with shards and an index), or a pipeline's `folder`.

    Raises FileNotFoundError for a missing source or shard, CheckpointError for anything but safetensors.
    """
    path = Path(path)
    if path.is_dir() and folder and (path / folder).is_dir():
        path = path / folder
    if not path.exists():
        raise FileNotFoundError(
            f"no source {path}: expected a file, a folder, or a name on the hub, owner/name"
        )
    files = _files(path) if path.is_dir() else [path]
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
    """Reads a JSON object. Raises FileNotFoundError, or ConversionError when it is not one."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    return read_object(path, {}, ConversionError)


def _files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, in order."""
    present = sorted(folder.glob("*.safetensors"))
    # A folder may also hold another precision (model.fp16.safetensors): the shorter name comes first.
    indexes = sorted(folder.glob(f"*{INDEX}"), key=lambda path: len(path.name))
    if indexes:
        weight_map = read_object(indexes[0], {"weight_map": dict[str, str]}, ConversionError)["weight_map"]
        files = [folder / name for name in sorted(set(weight_map.values()))]
        if missing := [file.name for file in files if not file.is_file()]:
            raise FileNotFoundError(f"{indexes[0]} names missing shards: {', '.join(missing)}")
        if files:
            return files
    for name in WHOLE:
        if (folder / name) in present:
            return [folder / name]
    if len(present) == 1:
        return present
    if present:
        names = ", ".join(file.name for file in present)
        raise ConversionError(
            f"{folder} holds several safetensors files without an index ({names}): give one of them"
        )
    if pickles := [file.name for file in sorted(folder.iterdir()) if file.suffix in PICKLE_SUFFIXES]:
        return [folder / pickles[0]]  # its reader explains why it is refused
    raise FileNotFoundError(f"{folder} holds no .safetensors file")
