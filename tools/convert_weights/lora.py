"""LoRA files to and from the native directory, which records rank, blocks, base and position convention."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from uno_jax.families.uno.config import UnoPE
from uno_jax.families.uno.lora import LoraInfo
from uno_jax.families.uno.lora_names import Format
from uno_jax.networks.mmdit_config import MMDiTConfig
from uno_jax.support.atomic import refuse_existing
from uno_jax.support.folder_lock import locked_path
from uno_jax.support.trees import Params
from uno_jax.weights.checkpoint import atomic_directory, read_config, restore_lora, write_lora
from uno_jax.weights.lora_files import METADATA, load_tensors, save_tensors

from .convert import DTYPES, require_space
from .mapping import ConversionError
from .source import open_source


def import_lora(
    src: Path,
    dst: Path,
    base: Path | None = None,
    unope: Mapping[str, Any] = MappingProxyType({}),
    dtype: str = "keep",
    overwrite: bool = False,
) -> LoraInfo:
    """Writes the native directory `dst` from a .safetensors file in any naming, or a folder with one.

    `base` is the model that the LoRA belongs to (None: a transformer of FLUX.1's size). `unope` are
    fields of its convention; others are as recorded, or else UNO's.

    Raises CheckpointError for a file that is not a LoRA of that base or records another convention,
    FileExistsError.
    """
    with atomic_directory(Path(dst), overwrite) as partial:
        source = open_source(Path(src))
        file, *others = source.files
        if others:
            raise ConversionError(f"{src} has several shards: a LoRA is one file")
        mmdit = MMDiTConfig() if base is None else _read_mmdit_config(Path(base))
        lora, recorded, params = load_tensors(file, mmdit)
        asked = replace(recorded or UnoPE(), **unope)
        if METADATA in source.metadata and asked != recorded:
            raise ConversionError(f"{src} was trained with {recorded}, not with {asked}")
        params = _cast(params, dtype)
        require_space(dst, sum(leaf.nbytes for leaf in jax.tree.leaves(params)))
        info = LoraInfo(mmdit, lora, asked)
        write_lora(partial, info, params)
    return info


def export_lora(
    src: Path,
    dst: Path,
    format: Format,
    dtype: str = "keep",
    overwrite: bool = False,
) -> LoraInfo:
    """Writes a native LoRA directory, or the LoRA of a model directory, as one .safetensors file.

    Raises FileNotFoundError, CheckpointError, FileExistsError.
    """
    with locked_path(dst):
        refuse_existing(Path(dst), overwrite)
        src = src / "lora" if (src / "lora").is_dir() else src
        if not src.exists():
            raise FileNotFoundError(
                f"no LoRA at {src}: name small, small-cached, or a directory that training or uno-convert "
                "lora wrote"
            )
        info, restored = restore_lora(src)
        params = _cast(restored, dtype)
        # diffusers' naming has a copy of the down matrix for each of q, k and v.
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(params)) * (2 if format == "diffusers" else 1)
        require_space(dst, size)
        save_tensors(dst, info, params, format, overwrite)
    return info


def _read_mmdit_config(base: Path) -> MMDiTConfig:
    config = read_config(base / "mmdit" if (base / "mmdit").is_dir() else base, "mmdit")
    assert isinstance(config, MMDiTConfig)
    return config


def _cast(params: Params, dtype: str) -> Params:
    return params if dtype == "keep" else jax.tree.map(lambda leaf: jnp.asarray(leaf, DTYPES[dtype]), params)
