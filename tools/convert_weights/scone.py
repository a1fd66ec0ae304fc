"""BAGEL's and Scone's weights to one model directory, and back to one file.

A source is a folder as BAGEL is published: ema.safetensors (Scone: model.safetensors), whole or in shards,
with the decoder and the ViT; ae.safetensors; llm_config.json, vit_config.json and config.json; and the
tokenizer's files.
"""

import dataclasses
import math
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from uno_jax.families.scone.config import SconeConfig, SconeDefaults
from uno_jax.networks.mot import MoTConfig, grid_places, sincos_places
from uno_jax.support.digests import file_hash
from uno_jax.support.folder_lock import locked
from uno_jax.support.words import counted
from uno_jax.tokenizers.qwen import FILES as TOKENIZER_FILES
from uno_jax.tokenizers.qwen import read_tokenizer
from uno_jax.weights.checkpoint import atomic_directory, read_config

from .convert import Plan, plan, some
from .export import export_parts, open_part
from .mapping import ConversionError
from .pipeline import write_missing
from .source import Source, open_source, read_json
from .tables import mot, vae

WEIGHTS = ("ema", "model")
AUTOENCODER = "ae.safetensors"
CONFIGS = ("llm_config", "vit_config")
TOKENIZER = "tokenizer"
TABLES = {"latent_pos_embed.pos_embed": "latent_side", "vit_pos_embed.pos_embed": "vit_side"}


def convert_scone(src: Path, dst: Path, dtype: str = "keep", overwrite: bool = False) -> Iterator[str]:
    """Writes DST/mot, vit, vae and tokenizer, and yields a line for each. Those that an earlier call has
    written are kept unless `overwrite`.

    Raises ConversionError or FileNotFoundError before anything is written when a part is missing or is not
    what it should be, or DST holds another one.
    """
    folder = src if src.is_dir() else src.parent
    plans, ignored = plan_scone(open_bagel(src), folder, dtype)
    files = _tokenizer_files(folder, plans[0].config)
    with locked(dst):
        if ignored:
            yield f"ignored {counted(len(ignored), 'unused key')}: {some(ignored)}"
        there = not overwrite and _is_there(files, dst / TOKENIZER)
        yield from write_missing(plans, dst, overwrite)
        if there:
            yield f"kept {dst / TOKENIZER}, which is there"
        else:
            copy_files(files, dst / TOKENIZER, overwrite)
            yield f"wrote {dst / TOKENIZER}: {', '.join(file.name for file in files)}"


def is_bagel(path: Path) -> bool:
    """Whether this is a folder of BAGEL's."""
    return (path / AUTOENCODER).is_file() and bool(_found_weights(path))


def _found_weights(folder: Path) -> list[str]:
    return [stem for stem in WEIGHTS if any(folder.glob(f"{stem}*.safetensors*"))]


def open_bagel(src: Path) -> Source:
    """The file, or shards, of the decoder and the ViT, with what the JSON files beside it say of both.

    Raises FileNotFoundError, or ConversionError for a folder of which several files could be meant.
    """
    folder = src if src.is_dir() else src.parent
    if src.is_dir() and len(found := _found_weights(folder)) > 1:
        raise ConversionError(
            f"{folder} holds {found[0]}.safetensors and {found[1]}.safetensors: give one of these files"
        )
    source = open_source(src, without=(AUTOENCODER,))
    records = {name: folder / f"{name}.json" for name in CONFIGS}
    config = source.config | {name: read_json(path) for name, path in records.items() if path.is_file()}
    for key, field in TABLES.items():
        if key in source.tensors and len(source.tensors[key].shape) == 2:
            config.setdefault(dict(mot.HINTS)[field][0], math.isqrt(source.tensors[key].shape[0]))
    return dataclasses.replace(source, config=config)


def beside(folder: Path, name: str) -> Path:
    """A file that belongs to the weights.

    Raises FileNotFoundError.
    """
    if not (folder / name).is_file():
        raise FileNotFoundError(
            f"{folder} lacks {name}, which BAGEL has beside its weights: copy it there (a training's own "
            "checkpoint has none)"
        )
    return folder / name


def plan_scone(source: Source, folder: Path, dtype: str = "keep") -> tuple[list[Plan], list[str]]:
    """The plans of all three networks, the autoencoder's in `folder`, and the keys that none of them uses.

    Raises ConversionError for a network that is not complete, or does not belong to the others.
    """
    decoder, eyes = plan(mot.MODEL, source, dtype), plan(mot.EYES, source, dtype)
    pixels = plan(vae.MODEL, open_source(beside(folder, AUTOENCODER)), dtype)
    try:
        config = SconeConfig(decoder.config, eyes.config, pixels.config, decoder.defaults)
    except ValueError as error:
        raise ConversionError(f"{source.path}: {error}") from None
    for key, field in TABLES.items():
        wanted = (getattr(config.mot, field) ** 2, config.mot.hidden_size)
        if key in source.tensors and source.tensors[key].shape != wanted:
            raise ConversionError(
                f"{source.path} has the positions {key} for {source.tensors[key].shape[0]} places where its "
                f"config.json says {wanted[0]}"
            )
    ignored = sorted(set(decoder.ignored) & set(eyes.ignored))
    return [decoder._replace(defaults=_fitting(config)), eyes, pixels], ignored


def _fitting(config: SconeConfig) -> SconeDefaults:
    """The defaults, with no size for which the networks have no positions."""
    side = config.mot.latent_side * config.mot.latent_patch * config.vae.downsampling
    seen = config.mot.vit_side * config.vit.patch_size
    given = config.defaults
    return dataclasses.replace(
        given,
        resolution=min(given.resolution, side),
        ref_size=min(given.ref_size, side),
        ref_vit_size=min(given.ref_vit_size, seen),
    )


def _tokenizer_files(folder: Path, config: MoTConfig) -> list[Path]:
    """The tokenizer's files beside the weights, after checking them.

    Raises CheckpointError.
    """
    read_tokenizer(folder, config)
    return [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]


def _is_there(files: list[Path], place: Path) -> bool:
    """Whether the tokenizer is written.

    Raises ConversionError when another one is in its place.
    """
    if not place.exists():
        return False
    same = all((place / file.name).is_file() for file in files)
    if not same or any(file_hash(file) != file_hash(place / file.name) for file in files):
        raise ConversionError(
            f"{place} holds another tokenizer: choose another destination, or pass --overwrite"
        )
    return True


def copy_files(files: list[Path], directory: Path, overwrite: bool) -> None:
    """Copies files to a new directory.

    Raises FileExistsError.
    """
    with atomic_directory(directory, overwrite) as partial:
        for file in files:
            shutil.copyfile(file, partial / file.name)


def export_scone(model: Path, file: Path, dtype: str = "keep", overwrite: bool = False) -> Path:
    """Writes a model's decoder and ViT to one file in BAGEL's names, with both tables of positions.

    Raises CheckpointError for another model, FileExistsError, ConversionError when the disk is too small.
    """
    config = read_config(model / mot.MODEL.kind, mot.MODEL.kind)
    eyes = read_config(model / mot.EYES.kind, mot.EYES.kind)
    if eyes.pooling != "none":
        raise ConversionError(f"{model / mot.EYES.kind} is no ViT of BAGEL's: it pools by {eyes.pooling}")
    tables = {key: partial(_positions, config, field) for key, field in TABLES.items()}
    parts = [open_part(table, model / table.kind) for table in (mot.MODEL, mot.EYES)]
    return export_parts(parts, file, dtype, overwrite, tables)


def _positions(config: Any, field: str) -> np.ndarray:
    side = getattr(config, field)
    return np.asarray(sincos_places(grid_places(side, side), side, config.hidden_size))
