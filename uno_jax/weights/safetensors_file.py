"""Safetensors files: validated headers, slices of tensors as views of the file, and streamed writing.

The safetensors library's numpy API lacks fp8, keeps what it read in memory and writes only whole files.
The format: eight bytes of length, a JSON object {name: {dtype, shape, data_offsets}}, then the data.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from uno_jax.support.atomic import atomic_write
from uno_jax.support.errors import CheckpointError

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
NAMES = {kind: name for name, kind in DTYPES.items()}
PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
Shape = tuple[int, ...]


class Tensor(NamedTuple):
    """One tensor in a file, `offset` bytes from its start."""

    file: Path
    offset: int
    dtype: np.dtype
    shape: Shape

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows [start, stop) as a memory map of the file, which is freed with the array."""
        if not self.shape or not self.nbytes:
            flat = np.fromfile(self.file, self.dtype, math.prod(self.shape), offset=self.offset)
            return flat.reshape(self.shape)
        row = self.nbytes // self.shape[0]
        stop = self.shape[0] if stop is None else stop
        raw = np.memmap(self.file, np.uint8, "r", self.offset + start * row, (stop - start) * row)
        return raw.view(self.dtype).reshape(stop - start, *self.shape[1:])


def read_header(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a file.

    Raises FileNotFoundError, or CheckpointError for a pickle (by name or content), another format, or a
    truncated file.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(9)
        _refuse_others(file, start)
        stream.seek(8)
        length = int.from_bytes(start[:8], "little")
        text = stream.read(length) if 0 < length <= size - 8 else b""
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__", {})
        tensors = {name: _tensor(file, 8 + length, entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        fault = "truncated" if size < 8 + length < 2**32 else "not a safetensors file or damaged"
        raise CheckpointError(f"{file} is {fault}: no header can be read from its {size} bytes") from None
    end = max((tensor.offset + tensor.nbytes for tensor in tensors.values()), default=8 + length)
    if size != end:
        fault = "truncated" if size < end else "damaged"
        raise CheckpointError(f"{file} is {fault}: it has {size} bytes where its header describes {end}")
    return tensors, metadata


def _refuse_others(file: Path, start: bytes) -> None:
    # A safetensors header's length may begin with a pickle's two bytes, but a JSON object follows it.
    pickled = start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05" and start[8:] != b"{"
    zipped = start[:4] == b"PK\x03\x04"
    if zipped or pickled or file.suffix in PICKLE_SUFFIXES:
        raise CheckpointError(
            f"{file} is a pickle (a PyTorch checkpoint), which can run any code when loaded and is not "
            "supported: use the .safetensors file, or save it as one with safetensors.torch.save_file"
        )
    if start[:4] == b"GGUF":
        raise CheckpointError(f"{file} is a GGUF file, which is not supported: use the .safetensors file")


def _tensor(file: Path, data: int, entry: dict[str, Any]) -> Tensor:
    begin, end = entry["data_offsets"]
    tensor = Tensor(file, data + begin, DTYPES[entry["dtype"]], tuple(entry["shape"]))
    if tensor.nbytes != end - begin:
        raise ValueError("offsets and shape disagree")
    return tensor


def write_safetensors(
    file: Path,
    header: Mapping[str, tuple[np.dtype, Shape]],
    tensor: Callable[[str], np.ndarray],
    metadata: Mapping[str, str],
    overwrite: bool = False,
) -> None:
    """Writes a file under a temporary name and renames it, calling `tensor` for one name after another in the
    header's order.

    Raises FileExistsError when `file` exists and `overwrite` is false.
    """
    record: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape) in header.items():
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        record[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(record).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(Path(file), overwrite) as partial, partial.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, (dtype, _) in header.items():
            stream.write(np.ascontiguousarray(tensor(name), dtype).view(np.uint8).data)
