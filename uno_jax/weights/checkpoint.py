"""The native format on disk: a network or a LoRA is a directory of config.json and its parameters (`params`).

A model is a directory that holds the networks mmdit/, vae/, t5/ and clip/, and perhaps the lora/ that comes
with it. Directories are written aside and renamed, config.json last, so what was interrupted never loads.
"""

import contextlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from uno_jax.families.uno.lora import abstract_lora
from uno_jax.networks.config import (
    CLIPConfig,
    EfficientNetConfig,
    LoraConfig,
    MMDiTConfig,
    ModelConfig,
    T5Config,
    UnoPE,
    VAEConfig,
    ViTConfig,
    from_dict,
    to_dict,
)
from uno_jax.networks.registry import NetworkConfig, Params, abstract_params
from uno_jax.sharding.rules import is_first_process, wait_for_all
from uno_jax.weights import arrays as stored
from uno_jax.weights.safetensors_file import CheckpointError

FORMAT = 1
NETWORKS: dict[str, type] = {"mmdit": MMDiTConfig, "vae": VAEConfig, "t5": T5Config, "clip": CLIPConfig}
# Also what is no part of a model.
KINDS: dict[str, type] = NETWORKS | {"efficientnet": EfficientNetConfig, "vit": ViTConfig}
FINGERPRINTED = 1 << 17  # elements of the largest array that `fingerprint` reads


class LoraInfo(NamedTuple):
    """What a LoRA directory records beside its parameters: its base and its position convention."""

    mmdit: MMDiTConfig
    lora: LoraConfig
    unope: UnoPE


def kind_of(config: NetworkConfig) -> str:
    """The name of a network's kind, which is also its folder in a model."""
    return next(kind for kind, cls in KINDS.items() if isinstance(config, cls))


@contextlib.contextmanager
def written_aside(directory: Path, overwrite: bool = False) -> Iterator[Path]:
    """Gives an empty folder to write into, which then becomes `directory`; removed on any failure.

    Of several processes the first makes and renames it. Raises FileExistsError before anything is written
    when `directory` exists and `overwrite` is false.
    """
    directory = Path(directory).absolute()
    if directory.exists() and not overwrite:
        raise FileExistsError(f"{directory} exists already: choose another destination, or --overwrite")
    # One name, so that what a killed run left is found and removed by the next.
    aside = directory.with_name(f".{directory.name}.partial")
    created = [parent for parent in directory.parents if not parent.exists()]
    if is_first_process():
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    wait_for_all(f"made {aside}")
    try:
        yield aside
        wait_for_all(f"written {aside}")
        if is_first_process():
            _become(aside, directory)
        wait_for_all(f"renamed {aside}")
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty: another has written there meanwhile
            for parent in created:
                parent.rmdir()
        raise


def _become(aside: Path, directory: Path) -> None:
    if not directory.exists():
        os.replace(aside, directory)
        return
    old = directory.with_name(f".{directory.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    os.replace(directory, old)
    os.replace(aside, directory)
    shutil.rmtree(old)


def write_config(directory: Path, record: dict[str, Any]) -> None:
    """Writes config.json. Call it last: it makes the directory a checkpoint."""
    record = {"format": FORMAT, **record, "params_bytes": stored.stored_bytes(directory)}
    (directory / "config.json").write_text(json.dumps(record, indent=1) + "\n")


def save_network(
    directory: Path,
    config: NetworkConfig,
    params: Params,
    overwrite: bool = False,
    origin: dict[str, str] | None = None,
) -> None:
    """Writes a network; `origin` tells in config.json where it comes from. Raises FileExistsError when
    `directory` exists and `overwrite` is false.
    """
    record = {"kind": kind_of(config), "config": to_dict(config), **({"origin": origin} if origin else {})}
    _save(directory, record, params, overwrite)


def copy_network(source: Path, directory: Path) -> None:
    """Puts a stored network in place of what is in `directory`."""
    with written_aside(directory, overwrite=True) as aside:
        if is_first_process():
            shutil.copytree(source, aside, dirs_exist_ok=True)


def save_lora(directory: Path, info: LoraInfo, params: Params, overwrite: bool = False) -> None:
    """Writes a LoRA with the convention it was trained with. Raises as `save_network`."""
    record = {name: to_dict(part) for name, part in info._asdict().items()}
    _save(directory, {"kind": "lora", **record}, params, overwrite)


def _save(directory: Path, record: dict[str, Any], params: Params, overwrite: bool) -> None:
    with written_aside(directory, overwrite) as aside:
        stored.save(aside, params)
        if is_first_process():
            write_config(aside, record)


def read_record(directory: Path) -> dict[str, Any]:
    """config.json as it is, with format, kind and completeness checked.

    Raises FileNotFoundError for a missing folder, CheckpointError for anything but a whole checkpoint.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"no checkpoint directory {directory}")
    try:
        record = json.loads((directory / "config.json").read_text())
    except FileNotFoundError:
        found = ", ".join(sorted(path.name for path in directory.iterdir())[:8]) or "nothing"
        raise CheckpointError(
            f"{directory} has no config.json (it holds {found}): it is no checkpoint, or its writing was "
            "interrupted"
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{directory / 'config.json'} is not readable JSON: {error}") from None
    if not isinstance(record, dict) or not {"format", "kind"} <= record.keys():
        raise CheckpointError(f"{directory / 'config.json'} does not describe a uno_jax checkpoint")
    if record["format"] != FORMAT:
        raise CheckpointError(
            f"{directory} has format {record['format']}; this program reads format {FORMAT}"
        )
    if (size := stored.stored_bytes(directory)) != record["params_bytes"]:
        raise CheckpointError(
            f"{directory} holds {size} bytes of parameters where {record['params_bytes']} were "
            "written: it is damaged or was copied in part; copy or convert it again"
        )
    return record


def read_config(directory: Path, kind: str | None = None) -> NetworkConfig:
    """The config of a network. Raises as `read_record`, or CheckpointError if it is not a `kind`."""
    record = read_record(directory)
    found = record["kind"]
    if found not in KINDS or kind not in (None, found):
        raise CheckpointError(f"{directory} holds a {found}, expected {kind or ' or '.join(KINDS)}")
    return _parse(KINDS[found], record["config"], directory)


def read_model(directory: Path) -> ModelConfig:
    """The configs of a model directory. Raises as `read_config`, naming the network at fault."""
    directory = Path(directory)
    if directory.is_dir() and (missing := [kind for kind in NETWORKS if not (directory / kind).is_dir()]):
        raise CheckpointError(
            f"{directory} is no whole model: it lacks {', '.join(missing)}. A model holds "
            f"{', '.join(NETWORKS)}, each written by tools.convert_weights"
        )
    configs: dict[str, Any] = {kind: read_config(directory / kind, kind) for kind in NETWORKS}
    return ModelConfig(**configs)


def read_lora(directory: Path) -> LoraInfo:
    """What the LoRA in `directory` was trained for. Raises as `read_config`."""
    record = read_record(directory)
    if record["kind"] != "lora":
        raise CheckpointError(f"{directory} holds a {record['kind']}, expected a lora")
    types = {"mmdit": MMDiTConfig, "lora": LoraConfig, "unope": UnoPE}
    return LoraInfo(**{name: _parse(cls, record[name], directory) for name, cls in types.items()})


def restore_network(
    directory: Path, kind: str | None = None, mesh: Mesh | None = None, dtype: Any = None
) -> tuple[NetworkConfig, Params]:
    """A network's config and parameters, sharded over `mesh` by the table of `sharding` (None: one device).

    `dtype` None keeps each array's own. Raises as `read_config`.
    """
    config = read_config(directory, kind)
    return config, stored.restore(Path(directory), abstract_params(config), mesh, dtype)


def fingerprint(directory: Path) -> str:
    """Equal for copies and new conversions of a network, and another after training: a checksum of its
    small arrays (norms, biases). Raises as `read_config`.
    """
    shapes, _ = abstract_params(read_config(directory))
    small = jax.tree.map(lambda leaf: leaf.size <= FINGERPRINTED, shapes)
    check = 0
    for array in stored.read_some(directory, shapes, small):
        check = zlib.crc32(np.asarray(array, np.float32).tobytes(), check)
    return f"{check:08x}"


def restore_lora(directory: Path, mesh: Mesh | None = None, dtype: Any = None) -> tuple[LoraInfo, Params]:
    """A LoRA's record and its tree, as `restore_network`."""
    info = read_lora(directory)
    return info, stored.restore(Path(directory), abstract_lora(info.mmdit, info.lora), mesh, dtype)


def _parse(cls: type, values: dict[str, Any], directory: Path) -> Any:
    try:
        return from_dict(cls, values)
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{Path(directory) / 'config.json'}: {error}") from None
