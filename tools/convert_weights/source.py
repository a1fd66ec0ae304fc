"""Safetensors files and folders as named tensors on disk: found, checked, and read slice by slice.

Also what a source is refused for: pickles by name and by content, other formats, missing shards, truncated
files.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from .mapping import ConversionError

DTYPES: dict[str, np.dtype] = {
    name: np.dtype(kind)
    for name, kind in (
        ("F64", np.float64),
        ("F32", np.float32),
        ("F16", np.float16),
        ("BF16", ml_dtypes.bfloat16),
        ("F8_E4M3", ml_dtypes.float8_e4m3fn),
        ("F8_E5M2", ml_dtypes.float8_e5m2),
        ("I64", np.int64),
        ("I32", np.int32),
        ("I16", np.int16),
        ("I8", np.int8),
        ("U8", np.uint8),
        ("BOOL", np.bool_),
    )
}
FP8 = (DTYPES["F8_E4M3"], DTYPES["F8_E5M2"])
PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
INDEX = ".safetensors.index.json"
WHOLE = ("diffusion_pytorch_model.safetensors", "model.safetensors")  # what a folder's own program loads


class Tensor(NamedTuple):
    """Where one tensor lies: `offset` bytes into `file`."""

    file: Path
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows [start, stop) as a view of the file: pages come in when touched and go with the view."""
        if not self.shape or self.nbytes == 0:
            raw = np.fromfile(self.file, self.dtype, math.prod(self.shape), offset=self.offset)
            return raw.reshape(self.shape)
        stop = self.shape[0] if stop is None else stop
        row = self.nbytes // self.shape[0]
        shape = (stop - start, *self.shape[1:])
        # Mapped as bytes, since memmap knows no ml_dtypes alignment of its own.
        raw = np.memmap(self.file, np.uint8, "r", self.offset + start * row, (stop - start) * row)
        return raw.view(self.dtype).reshape(shape)


@dataclass(frozen=True)
class Source:
    """The tensors and metadata of a file or folder, and the config.json beside it (empty if none)."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


def open_source(path: Path, folder: str = "") -> Source:
    """Opens a safetensors file, a folder of one (or of shards with an index), or a pipeline's `folder`.

    Raises FileNotFoundError for a missing source or shard, ConversionError for anything that is not
    safetensors.
    """
    path = Path(path)
    if path.is_dir() and folder and (path / folder).is_dir():
        path = path / folder
    if not path.exists():
        raise FileNotFoundError(
            f"no source {path}: expected a file, a folder, or a hub repository owner/name"
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
    return Source(path, tensors, metadata, read_json(beside) if beside.is_file() else {})


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises FileNotFoundError, or ConversionError when it is not one."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        record = json.loads(path.read_text())
    except ValueError as error:
        raise ConversionError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(record, dict):
        raise ConversionError(f"{path} must hold a JSON object, got {type(record).__name__}")
    return record


def _files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, in order."""
    present = sorted(folder.glob("*.safetensors"))
    # A folder may hold another precision beside it (model.fp16.safetensors): the plain name comes first.
    indexes = sorted(folder.glob(f"*{INDEX}"), key=lambda path: len(path.name))
    if indexes:
        weight_map = read_json(indexes[0]).get("weight_map", {})
        files = [folder / name for name in sorted(set(weight_map.values()))]
        if missing := [file.name for file in files if not file.is_file()]:
            raise FileNotFoundError(f"{indexes[0]} names shards that are not there: {', '.join(missing)}")
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
            f"{folder} holds several safetensors files without an index ({names}): name one"
        )
    if pickles := [file.name for file in sorted(folder.iterdir()) if file.suffix in PICKLE_SUFFIXES]:
        raise _refuse_pickle(folder / pickles[0])
    raise FileNotFoundError(f"{folder} holds no .safetensors file")


def read_header(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of a safetensors file. Raises ConversionError for any other, or a part of one.

    Format: eight bytes of length, a JSON object {name: {dtype, shape, data_offsets}}, then the data.
    """
    if file.suffix in PICKLE_SUFFIXES:
        raise _refuse_pickle(file)
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        if start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"):
            raise _refuse_pickle(file)
        if start[:4] == b"GGUF":
            raise ConversionError(f"{file} is a GGUF file, which is not read: give the safetensors file")
        length = int.from_bytes(start, "little")
        text = stream.read(length) if 0 < length <= size - 8 else b""
    try:
        header = json.loads(text)
        about = header.pop("__metadata__", {})
        tensors = {name: _tensor(file, 8 + length, entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        if text[:1] == b"{" or 0 < length < 2**32:
            raise ConversionError(
                f"{file} is truncated or damaged: its header cannot be read in {size} bytes"
            ) from None
        raise ConversionError(f"{file} is not a safetensors file") from None
    end = max((tensor.offset + tensor.nbytes for tensor in tensors.values()), default=8 + length)
    if size != end:
        raise ConversionError(
            f"{file} is truncated or damaged: its header speaks of {end} bytes, it has {size}"
        )
    return tensors, about


def _tensor(file: Path, data: int, entry: dict[str, Any]) -> Tensor:
    if entry["dtype"] not in DTYPES:
        raise ConversionError(f"{file} has tensors of dtype {entry['dtype']}, known are {', '.join(DTYPES)}")
    begin, end = entry["data_offsets"]
    tensor = Tensor(file, data + begin, DTYPES[entry["dtype"]], tuple(entry["shape"]))
    if tensor.nbytes != end - begin:
        raise ValueError("sizes disagree")
    return tensor


def _refuse_pickle(file: Path) -> ConversionError:
    return ConversionError(
        f"{file} is a pickle (a PyTorch checkpoint), which can run any code when loaded and is never read: "
        "get the .safetensors file, or save it as one with safetensors.torch.save_file"
    )
