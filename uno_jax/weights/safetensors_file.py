"""Safetensors: headers checked as the format demands, tensors read by rows, and streamed writing.

The library's numpy API lacks fp8, keeps what it read in memory and writes only whole files.
The format: eight bytes of length, a JSON object {name: {dtype, shape, data_offsets}}, then the data, in which
the tensors lie one after another.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

import ml_dtypes
import numpy as np
import safetensors.numpy

from uno_jax.support.atomic import atomic_write
from uno_jax.support.errors import CheckpointError
from uno_jax.support.json_files import DECODER, reason

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
# Bits of an element: of what is read, and of the format's other dtypes.
BITS = {name: 8 * kind.itemsize for name, kind in DTYPES.items()}
BITS |= {"U16": 16, "U32": 32, "U64": 64, "C64": 64, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8}
BITS |= {"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4}
PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
LARGEST_HEADER = 100_000_000  # bytes, the format's own bound
LFS_POINTER = b"version https://git-lfs"
LARGEST, MOST_AXES = 2**63, 64  # numpy's bounds on an array's bytes and axes
Shape = tuple[int, ...]


class Tensor(NamedTuple):
    """One tensor of a file: its dtype as the file names it, and `nbytes` at byte `offset` of the file."""

    file: Path
    name: str
    stored: str
    shape: Shape
    offset: int
    nbytes: int

    @property
    def dtype(self) -> np.dtype:
        """Raises CheckpointError for a dtype that is not read."""
        if self.stored not in DTYPES:
            raise CheckpointError(
                f"{self.file}: tensor {self.name} has dtype {self.stored}, which is not read: use a file in "
                f"{', '.join(DTYPES)}"
            )
        return DTYPES[self.stored]

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows [start, stop), in memory of their own: a memory map of a file that shrinks ends the process.

        Raises CheckpointError for a dtype that is not read, or if the file has become shorter.
        """
        shape = self.shape
        if shape:
            stop = shape[0] if stop is None else stop
            shape = (stop - start, *shape[1:])
        rows = np.empty(shape, self.dtype)
        self.read_into(rows, start)
        return rows

    def read_into(self, out: np.ndarray, start: int = 0) -> None:
        """Reads the rows from `start` on that `out` has, an array in C order of the tensor's dtype. Large
        arrays of new memory cost more than reading does: one that is used again costs nothing.

        Raises CheckpointError if the file has become shorter.
        """
        row = self.nbytes // max(self.shape[0], 1) if self.shape else 0
        with self.file.open("rb") as stream:
            stream.seek(self.offset + start * row)
            if stream.readinto(out.reshape(-1).view(np.uint8).data) != out.nbytes:
                self._refuse_shorter()

    def map(self) -> np.ndarray:
        """The tensor as a memory map, which is read where it is used; for files of our own.

        Raises as `read`; a file that shrinks afterwards ends the process.
        """
        if not self.shape or not self.nbytes:
            return self.read()
        if self.file.stat().st_size < self.offset + self.nbytes:
            self._refuse_shorter()
        raw = np.memmap(self.file, np.uint8, "r", self.offset, self.nbytes)
        return cast(np.ndarray, raw.view(self.dtype).reshape(self.shape))

    def _refuse_shorter(self) -> NoReturn:
        raise CheckpointError(
            f"{self.file} has become shorter since it was opened: its tensor {self.name} ends at byte "
            f"{self.offset + self.nbytes}; is it still being copied?"
        )


def read_header(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a file; those of a dtype that is not read are listed too.

    Raises FileNotFoundError, or CheckpointError for a pickle (by name or content), another format, a
    truncated file, or a header that the format does not allow.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} is a device or a pipe" if file.exists() else f"no file {file}")
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(64)
        _refuse_others(file, start)
        length = int.from_bytes(start[:8], "little")
        stream.seek(8)
        text = stream.read(length) if length <= min(size - 8, LARGEST_HEADER) else None
    if text is None and length <= LARGEST_HEADER and start[8:9] in (b"{", b""):
        raise CheckpointError(f"{file} is truncated: no header can be read from its {size} bytes")
    return _parse(file, text or b"", size)


def from_bytes(content: bytes, name: Path) -> dict[str, np.ndarray]:
    """The arrays of a whole file in memory, as views; `name` is what errors call it.

    Raises CheckpointError as `read_header`.
    """
    length = int.from_bytes(content[:8], "little")
    tensors, _ = _parse(name, content[8 : 8 + length] if length <= LARGEST_HEADER else b"", len(content))
    return {
        key: np.frombuffer(content, tensor.dtype, math.prod(tensor.shape), tensor.offset).reshape(
            tensor.shape
        )
        for key, tensor in tensors.items()
    }


def to_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A whole file in memory."""
    return safetensors.numpy.save(dict(arrays))


def _refuse_others(file: Path, start: bytes) -> None:
    # A safetensors header's length may begin with a pickle's two bytes, but a JSON object follows it.
    pickled = start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05" and start[8:9] != b"{"
    zipped = start[:4] == b"PK\x03\x04"
    if start.startswith(LFS_POINTER):
        raise CheckpointError(
            f"{file} is a git-LFS pointer, which stands for the weights: run `git lfs pull` in its repository"
        )
    if zipped or pickled or file.suffix in PICKLE_SUFFIXES:
        raise CheckpointError(
            f"{file} is a pickle (a PyTorch checkpoint), which can run any code when loaded and is not "
            "supported: use the .safetensors file, or save it as one with safetensors.torch.save_file"
        )
    if start[:4] == b"GGUF":
        raise CheckpointError(f"{file} is a GGUF file, which is not supported: use the .safetensors file")


def _parse(file: Path, text: bytes, size: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The content of a header, in a file of `size` bytes.

    Raises CheckpointError.
    """
    try:
        if text[:1] != b"{":
            raise ValueError("no JSON object")
        header = DECODER.decode(text.decode())
        json.dumps(header, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{file} is not a safetensors file or damaged: no header can be read from its {size} bytes "
            f"({reason(error)})"
        ) from None
    metadata = header.pop("__metadata__", None)
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{file} is damaged: its __metadata__ is not an object of texts")
    start = 8 + len(text)
    tensors = {name: _tensor(file, name, start, entry) for name, entry in header.items()}
    _check_layout(file, tensors, start, size)
    return tensors, metadata


def _tensor(file: Path, name: str, start: int, entry: Any) -> Tensor:
    """One entry of a header.

    Raises CheckpointError.
    """

    def refuse(fault: str) -> NoReturn:
        raise CheckpointError(f"{file} is damaged: in its header the entry of tensor {name} {fault}")

    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        refuse("is not {dtype, shape, data_offsets}")
    stored, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(stored, str):
        refuse("has a dtype that is not a text")
    if not _are_sizes(shape) or len(shape) > MOST_AXES or math.prod(max(n, 1) for n in shape) * 8 >= LARGEST:
        refuse("has a shape that is not a list of sizes of an array")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        refuse("has data_offsets that are not two places, begin and end")
    begin, end = offsets
    if stored in BITS and math.prod(shape) * BITS[stored] != 8 * (end - begin):
        refuse(f"has {end - begin} bytes for a shape of {shape} and dtype {stored}")
    return Tensor(file, name, stored, tuple(shape), start + begin, end - begin)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < LARGEST for value in values)


def _check_layout(file: Path, tensors: Mapping[str, Tensor], start: int, size: int) -> None:
    """Raises CheckpointError unless the tensors fill the file from `start` to its end, without holes."""
    end = start
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.offset, tensor.nbytes)):
        if tensor.offset != end:
            fault = "a hole" if tensor.offset > end else "an overlap"
            raise CheckpointError(f"{file} is damaged: its header describes {fault} before {tensor.name}")
        end += tensor.nbytes
    if size != end:
        fault = "truncated" if size < end else "damaged"
        raise CheckpointError(f"{file} is {fault}: it has {size} bytes where its header describes {end}")


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
