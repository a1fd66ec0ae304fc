"""Safetensors files whose headers lie, at every place that reads them."""

import json
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.hostile.case import Case, spoilt


def cases() -> Iterator[Case]:
    for name, content in files().items():
        make = partial(_write, content)
        for kind in ("flux", "vae", "t5", "clip", "vit", "lora"):
            yield spoilt(kind, f"source: {name}", "--src", "bad.safetensors", make=make)
        yield spoilt("inspect", name, make=partial(_write_as, content, "sources/vae.safetensors"))
        yield spoilt("sample", f"--lora {name}", "--lora", "bad.safetensors", make=make)
        yield spoilt("efficientnet", f"source: {name}", "--src", "bad.safetensors", make=make)
        yield spoilt("lpips", f"source: {name}", "--src", "bad.safetensors", make=make)


def _write(content: bytes, folder: Path) -> None:
    _write_as(content, "bad.safetensors", folder)


def _write_as(content: bytes, name: str, folder: Path) -> None:
    (folder / name).write_bytes(content)


def packed(header: Any, data: bytes = bytes(16), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape: Any = (2, 2), offsets: Any = (0, 16), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def files() -> dict[str, bytes]:
    """Name -> the bytes of a file."""
    one = {"a": tensor()}
    headers: dict[str, Any] = {
        "a shape with text": {"a": tensor([2**31, 2, "a"])},
        "a negative shape": {"a": tensor([-2, -2])},
        "a shape of fractions": {"a": tensor([2.0, 2])},
        "a shape of truths": {"a": tensor([True, 4])},
        "a huge shape": {"a": tensor([2**62, 2**62])},
        "a shape of no list": {"a": tensor("22")},
        "overlaps": {"a": tensor(), "b": tensor()},
        "a hole": {"a": tensor((2, 1), (8, 16))},
        "offsets below zero": {"a": tensor((2, 2), (-16, 0))},
        "offsets beyond the end": {"a": tensor((2, 2), (2**40, 2**40 + 16))},
        "offsets reversed": {"a": tensor((2, 2), (16, 0))},
        "three offsets": {"a": tensor((2, 2), (0, 8, 16))},
        "another size": {"a": tensor((3, 3))},
        "an unknown dtype": {"a": tensor(dtype="F3")},
        "a dtype of 1": {"a": tensor(dtype=1)},
        "metadata of a list": {"__metadata__": [1], **one},
        "metadata of numbers": {"__metadata__": {"a": 1}, **one},
        "no tensors": {},
        "a tensor of null": {"a": None},
        "a list": [1],
        "a name of control characters": {"\x1b[31m\n": tensor()},
        "half a character": b'{"\\ud800": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}',
        "deep nesting": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "NaN": b'{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 16]}}',
    }
    return {
        **{name: packed(header) for name, header in headers.items()},
        "a header of 2**63 bytes": packed(one, length=2**63),
        "a header of 100 MB": packed(one, length=100 << 20),
        "a header beyond the end": packed(one, length=4096),
        "no bytes": b"",
        "seven bytes": b"1234567",
        "a pickle": b"\x80\x04cposix\nsystem\n(S'touch written'\ntR.",
    }
