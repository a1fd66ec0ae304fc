"""Headers that the format allows and that it does not, dtypes that are not read, and files that shrink."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.fuzz.safetensors import fuzz
from uno_jax.support.errors import CheckpointError
from uno_jax.weights.safetensors_file import read_header

A = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
B = {"dtype": "U8", "shape": [4], "data_offsets": [8, 12]}


@pytest.fixture
def write(tmp_path):
    """Writes a file from a header, as JSON or as it stands, and its data."""

    def write(header, size=12, length=None):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        file = tmp_path / "x.safetensors"
        file.write_bytes(
            (len(text) if length is None else length).to_bytes(8, "little") + text + b"\0" * size
        )
        return file

    return write


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ({"a": A, "b": B}, 12),
        ({"b": B, "a": A}, 12),
        ({"__metadata__": None, "a": A}, 8),
        ({"__metadata__": {"k": "v"}, "a": A}, 8),
        ({"a": A | {"shape": [0, 5], "data_offsets": [0, 0]}}, 0),
        ({"a": A | {"shape": [], "data_offsets": [0, 4]}}, 4),
        ({}, 0),
        (json.dumps({"a": A}).encode().ljust(200), 8),
    ],
)
def test_what_the_format_allows(write, header, size):
    tensors, metadata = read_header(write(header, size))
    assert metadata in ({}, {"k": "v"})
    assert all(tensor.read().shape == tensor.shape for tensor in tensors.values())


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": A | {"shape": [2147483648, 2, "a"]}}, "tensor a has a shape that is not a list of sizes"),
        ({"a": A | {"shape": [-2]}}, "tensor a has a shape"),
        ({"a": A | {"shape": [2.0]}}, "tensor a has a shape"),
        ({"a": A | {"shape": [True, 2]}}, "tensor a has a shape"),
        ({"a": A | {"shape": [2**40, 2**40, 0]}}, "tensor a has a shape"),
        ({"a": A | {"shape": [1] * 65}}, "tensor a has a shape"),
        ({"a": A | {"shape": "2"}}, "tensor a has a shape"),
        ({"a": A | {"shape": [3]}}, r"tensor a has 8 bytes for a shape of \[3\] and dtype F32"),
        ({"a": A | {"dtype": 3}}, "tensor a has a dtype that is not a text"),
        ({"a": A | {"data_offsets": [8, 0]}}, "tensor a has data_offsets that are not two places"),
        ({"a": A | {"data_offsets": [-8, 0]}}, "tensor a has data_offsets"),
        ({"a": A | {"data_offsets": [0, 8, 8]}}, "tensor a has data_offsets"),
        ({"a": A, "b": B | {"data_offsets": [4, 8]}}, "describes an overlap before b"),
        ({"a": A, "b": B | {"data_offsets": [9, 13]}}, "describes a hole before b"),
        ({"a": A | {"data_offsets": [4, 12]}}, "describes a hole before a"),
        ({"a": A}, "damaged: it has .. bytes where its header describes"),
        ({"a": A, "b": B | {"shape": [5], "data_offsets": [8, 13]}}, "is truncated: it has"),
        ({"a": 3}, "tensor a is not .dtype, shape, data_offsets"),
        ({"a": {"dtype": "F32", "shape": [2]}}, "tensor a is not .dtype, shape, data_offsets"),
        ({"__metadata__": ["a"], "a": A}, "its __metadata__ is not an object of texts"),
        ({"__metadata__": {"a": 1}, "a": A}, "its __metadata__ is not an object of texts"),
        (b'{"a": 1, "a": 2}', "an object has the name 'a' twice"),
        (b'{"a": ' + b"[" * 100_000, "no header can be read"),
        (b'{"a": "\xff"}', "no header can be read"),
        ({"\ud800": A}, "no header can be read"),
        ({"__metadata__": {"a": "\ud800"}, "a": A}, "no header can be read"),
        ({"a": A | {"more": 1}}, "tensor a is not .dtype, shape, data_offsets"),
        (b"[]", "no header can be read"),
        (json.dumps({"a": A}).encode("utf-16"), "no header can be read"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"[8:], "no header can be read"),
    ],
)
def test_what_it_does_not_allow(write, header, message):
    with pytest.raises(CheckpointError, match=f"x.safetensors.*{message}"):
        read_header(write(header))


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**9, 500])
def test_a_length_beyond_the_file(write, length):
    with pytest.raises(CheckpointError, match="truncated|not a safetensors file"):
        read_header(write({"a": A}, 8, length))


@pytest.mark.parametrize(("stored", "size"), [("U32", 8), ("F8_E8M0", 2), ("F4", 1), ("F99", 5)])
def test_a_dtype_that_is_not_read_is_listed_and_named(write, stored, size):
    tensors, _ = read_header(write({"a": A | {"dtype": stored, "data_offsets": [0, size]}}, size))
    assert (tensors["a"].stored, tensors["a"].nbytes) == (stored, size)
    with pytest.raises(CheckpointError, match=f"tensor a has dtype {stored}, which is not read"):
        tensors["a"].read()


def test_a_git_lfs_pointer_is_called_one(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(CheckpointError, match="model.safetensors is a git-LFS pointer.*git lfs pull"):
        read_header(file)


@pytest.mark.parametrize("how", ["read", "map"])
def test_a_file_that_shrinks_is_an_error(tmp_path, how):
    file = tmp_path / "x.safetensors"
    save_file({"a": np.ones((100, 100), np.float32)}, file)
    tensor = read_header(file)[0]["a"]
    with file.open("r+b") as stream:
        stream.truncate(20_000)
    with pytest.raises(CheckpointError, match="x.safetensors has become shorter.*tensor a"):
        getattr(tensor, how)()


def test_mutated_files_are_read_or_refused(tmp_path):
    counts = fuzz(2000, 0, tmp_path)
    assert counts["read", "read"] > 10 and not counts["read", "refused"]
