"""LoRA files of other programs and native directories, with one function to load and one to save.

A family's table maps its LoRA to other programs' names (`LoraMethod.to_tensors`). The position convention is
stored in a file's metadata, since none of the namings has a key for it.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from uno_jax.families.family import LoraMethod
from uno_jax.families.registry import family_of, family_with
from uno_jax.networks.registry import row_of
from uno_jax.support.errors import CheckpointError
from uno_jax.support.json_files import parse_json
from uno_jax.support.settings import from_dict, to_dict
from uno_jax.support.trees import Params
from uno_jax.weights.checkpoint import family_of_lora, restore_lora
from uno_jax.weights.peft_config import IN_FOLDERS, read_scale
from uno_jax.weights.safetensors_file import read_header, write_safetensors

METADATA = "uno_jax.unope"


def save_tensors(file: Path, info: Any, params: Params, format: str = "uno", overwrite: bool = False) -> None:
    """Writes a LoRA as one .safetensors file.

    Raises FileExistsError if `file` exists and `overwrite` is false.
    """
    tensors = family_of_lora(info).need_lora().to_tensors(info, params, format)
    header = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    metadata = {"format": "pt", METADATA: json.dumps(to_dict(info.unope))}
    write_safetensors(Path(file), header, tensors.__getitem__, metadata, overwrite)


def load_tensors(file: Path, base: Any) -> tuple[Any, Any, Params]:
    """A LoRA for the network of config `base` from a .safetensors file in any naming: its config, position
    convention and tree. Without metadata the convention is UNO's. PEFT's adapter_config.json beside its
    adapter_model.safetensors gives the scales.

    Raises FileNotFoundError, or CheckpointError for keys of other layers and for a file that cannot be read.
    """
    method = family_with([row_of(base).kind]).need_lora()
    tensors, metadata = _read_file(file)
    with _naming(file):
        lora, params = method.from_tensors(base, tensors, read_scale(Path(file), metadata))
        return lora, _convention(method, metadata), params


def load_updates(file: Path, config: Any) -> tuple[dict[str, Params], list[str], Any]:
    """What a .safetensors file adds to a model, whichever layers it adapts: trees by network, the names of
    layers that are left out, and the position convention, None for a file that does not say it.

    Raises as `load_tensors`.
    """
    method = family_of(config).need_lora()
    tensors, metadata = _read_file(file)
    with _naming(file):
        trees, left_out = method.read_updates(config, tensors, read_scale(Path(file), metadata))
        recorded = METADATA in metadata or method.is_own(tensors)
        return trees, left_out, _convention(method, metadata) if recorded else None


def _read_file(file: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """A file's tensors and metadata."""
    header, metadata = read_header(Path(file))
    return {name: tensor.read() for name, tensor in header.items()}, metadata


def _convention(method: LoraMethod, metadata: dict[str, str]) -> Any:
    recorded = parse_json(metadata.get(METADATA, "{}"), METADATA)
    return from_dict(get_type_hints(method.info)["unope"], recorded)


@contextlib.contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Errors with the file's name."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{file}: {error}") from None


def load_lora(path: Path, base: Any) -> tuple[Any, Any, Params]:
    """A LoRA for the network of config `base` from a native directory, a .safetensors file, or a folder of
    PEFT or diffusers with one: its config, position convention and tree.

    Raises as `load_tensors`.
    """
    if (file := lora_file(path)) is not None:
        return load_tensors(file, base)
    info, params = restore_lora(Path(path))
    return info.lora, info.unope, params


def lora_file(path: Path) -> Path | None:
    """A LoRA's file, also where `path` is a folder of PEFT or diffusers; None for a native directory."""
    if not Path(path).is_dir():
        return Path(path)
    return next((Path(path) / name for name in IN_FOLDERS if (Path(path) / name).is_file()), None)
