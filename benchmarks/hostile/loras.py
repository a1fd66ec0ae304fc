"""LoRA files whose tensors do not belong together."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.hostile.case import Case, spoilt

Tensors = dict[str, np.ndarray]


def cases() -> Iterator[Case]:
    for name, change in CHANGES.items():
        make = partial(_change, change)
        yield spoilt("lora", name, "--src", "bad.safetensors", make=make)
        lora = ("--lora", "bad.safetensors")
        yield spoilt("sample", f"LoRA {name}", *lora, make=make, given=("sources",))
        yield spoilt("train", f"LoRA {name}", "--init-lora", "bad.safetensors", make=make, given=("sources",))
        yield spoilt("pack model", f"LoRA {name}", *lora, make=make, given=("sources",))


def _change(change: Callable[[Tensors], object], folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = {name: value.astype(np.float32) for name, value in _floats(folder).items()} or load_file
    change(tensors)
    save_file(tensors, folder / "bad.safetensors")


def _floats(folder: Path) -> Tensors:
    """The exported LoRA, bfloat16 read by hand."""
    import torch
    from safetensors.torch import load_file

    found = load_file(folder / "sources/lora.safetensors")
    return {name: value.to(torch.float32).numpy() for name, value in found.items()}


def _each(change: Callable[[str, np.ndarray], np.ndarray]) -> Callable[[Tensors], None]:
    def changed(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[name] = np.ascontiguousarray(change(name, tensors[name]))

    return changed


def _first(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensors], None]:
    def changed(tensors: Tensors) -> None:
        name = sorted(tensors)[0]
        tensors[name] = np.ascontiguousarray(change(tensors[name]))

    return changed


def _rename(tensors: Tensors) -> None:
    for name in list(tensors):
        tensors[f"other.{name}"] = tensors.pop(name)


CHANGES: dict[str, Callable[[Tensors], object]] = {
    "of rank 0": _each(lambda name, value: value[:0] if "down" in name else value[:, :0]),
    "of one dimension": _each(lambda name, value: value.ravel()),
    "of three dimensions": _each(lambda name, value: value[None]),
    "with one array of another rank": _first(lambda value: value[:1]),
    "with one array of another width": _first(lambda value: value[:, :-1]),
    "with one array missing": lambda tensors: tensors.pop(sorted(tensors)[0]),
    "with other names": _rename,
    "without arrays": lambda tensors: tensors.clear(),
    "of NaN": _each(lambda name, value: value * np.nan),
    "of infinite values": _each(lambda name, value: value + np.inf),
    "of 1e38": _each(lambda name, value: value * 0 + np.float32(1e38)),
    "of integers": _each(lambda name, value: value.astype(np.int32)),
    "with one name more": lambda tensors: tensors.update(a=np.zeros((2, 2), np.float32)),
}
