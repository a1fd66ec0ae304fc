"""Files of encoders as sources: safetensors as for any network, or torch files of DINO and DINOv2.

A torch file is a pickle: torch reads it with weights_only, which builds tensors and runs no code. Some
namings store tensors in another layout; here they are brought into that of the tables.
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from uno_jax.weights.safetensors_file import NAMES, PICKLE_SUFFIXES

from .mapping import ConversionError
from .source import Source, Tensor, open_source, read_json

INSTALL = "pip install 'uno_jax[evaluate]'"
TORCH_FILE = "pytorch_model.bin"  # the only file in older repositories on the hub
# Last parts of the keys of tokens: stored as (1, 1, width), (1, count, width) or (width,), here as rows.
TOKENS: tuple[str, ...] = (
    "cls_token",
    "class_embedding",
    "register_tokens",
    "pos_embed",
    "position_embeddings",
)
TOKENS += ("positional_embedding", "probe", "latent")
# OpenAI stores these as (width, projection).
TURNED = {"visual.proj": "visual.proj.weight", "text_projection": "text_projection.weight"}
# transformers stores it beside the tower, OpenAI inside it.
MOVED = {"visual_projection.weight": "vision_model.visual_projection.weight"}


class MemoryTensor(NamedTuple):
    """A tensor in memory, with the interface of `source.Tensor`."""

    array: np.ndarray

    @property
    def stored(self) -> str:
        return NAMES.get(self.array.dtype, self.array.dtype.name)

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Returns the rows [start, stop)."""
        return self.array[start:stop]

    def read_into(self, out: np.ndarray, start: int = 0) -> None:
        """Copies the rows from `start` on that `out` has."""
        out[...] = self.array[start : start + len(out)]


def open_encoder(path: Path, folder: str = "") -> Source:
    """Opens an encoder's safetensors (as `open_source`) or torch file, or a folder with only the latter, in
    the layout of the tables.

    Raises FileNotFoundError, CheckpointError or ConversionError for anything else.
    """
    if (path / TORCH_FILE).is_file() and not any(path.glob("*.safetensors")):
        path = path / TORCH_FILE
    pickled = path.is_file() and path.suffix in PICKLE_SUFFIXES
    return one_layout(read_torch(path) if pickled else open_source(path, folder))


def one_layout(source: Source) -> Source:
    """Returns the source with tokens as rows, and projections as (projection, width) inside their tower."""
    tensors: dict[str, Tensor] = {}
    for key, tensor in source.tensors.items():
        if key in TURNED:
            key, tensor = TURNED[key], MemoryTensor(tensor.read().T)
        elif key.rpartition(".")[2] in TOKENS and tensor.shape:
            tensor = MemoryTensor(tensor.read().reshape(-1, tensor.shape[-1]))
        tensors[MOVED.get(key, key)] = tensor
    return dataclasses.replace(source, tensors=tensors)


def read_torch(file: Path) -> Source:
    """Reads a torch file of named tensors, and the config.json beside it.

    Raises ConversionError.
    """
    advice = (
        "it may be a training state or a TorchScript archive; use its .safetensors file, or save the "
        "model's state_dict with safetensors.torch.save_file"
    )
    tensors: dict[str, Tensor] = {
        name: MemoryTensor(array) for name, array in torch_arrays(file, advice).items()
    }
    beside = file.parent / "config.json"
    return Source(file, tensors, {}, read_json(beside) if beside.is_file() else {})


def torch_arrays(file: Path, advice: str) -> dict[str, np.ndarray]:
    """Reads a torch file of named tensors.

    Raises ConversionError, which ends with `advice`.
    """
    try:
        import torch
    except ImportError:
        raise ConversionError(f"{file} is a torch file, and torch is not installed: {INSTALL}") from None
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        wide = {name: x.float() if x.dtype == torch.bfloat16 else x for name, x in state.items()}
        return {name: tensor.numpy() for name, tensor in wide.items()}
    # torch's errors depend on the first bytes, and some advise to load files in a way that may run any code.
    except Exception:
        raise ConversionError(f"{file} is not a torch file of named tensors: {advice}") from None
