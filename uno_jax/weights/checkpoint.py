"""The native format on disk: a network or a LoRA is a directory with config.json and its parameters.

A model is a directory that holds its family's networks, such as mmdit/, vae/, t5/ and clip/, and optionally
its lora/. Directories are written under a temporary name, config.json last, and renamed, so that an
interrupted one never loads.
"""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

from jax.sharding import Mesh

from uno_jax.families.family import Family
from uno_jax.families.registry import FAMILIES, family_drawn_by, family_with
from uno_jax.networks.registry import NETWORKS, NetworkConfig, abstract_params, row_of
from uno_jax.sharding.processes import from_first_process, is_first_process, locked_by_first, wait_for_all
from uno_jax.support.atomic import followed, made_parents, refuse_existing, replace_directory
from uno_jax.support.digests import write_digests
from uno_jax.support.errors import CheckpointError
from uno_jax.support.folder_lock import locked_path
from uno_jax.support.json_files import check_fields, read_object, shortened
from uno_jax.support.left_overs import aside_of, held
from uno_jax.support.settings import from_dict, to_dict
from uno_jax.support.trees import Params
from uno_jax.weights import arrays as stored
from uno_jax.weights.integrity import check_files, check_record

FORMAT = 1


@contextlib.contextmanager
def atomic_directory(directory: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty folder to write, which is renamed to `directory` at the end and removed on failure.
    Meanwhile `directory` is locked. What killed writers left beside it is removed. A symbolic link stays.

    Of several processes the first makes and renames it.

    Raises FileExistsError before anything is written when `directory` exists and `overwrite` is false, and
    InUseError when another command is writing it.
    """
    refuse_existing(Path(directory), overwrite, folder=True)
    directory = followed(Path(directory)).absolute()
    with (
        made_parents(directory),
        locked_by_first(locked_path(directory)),
        _folder_aside(directory) as partial,
    ):
        refuse_existing(directory, overwrite, folder=True)  # whoever had the lock before may have written it
        yield partial
        wait_for_all(f"written {partial}")
        if is_first_process():
            replace_directory(partial, directory)
        wait_for_all(f"renamed {partial}")


@contextlib.contextmanager
def _folder_aside(directory: Path) -> Iterator[Path]:
    """An empty folder beside `directory`, of one name in all processes, which is locked while it is written
    and removed on failure.
    """
    partial = directory.with_name(from_first_process(aside_of(directory).name))
    try:
        if not is_first_process():
            wait_for_all(f"made {partial}")
            yield partial
            return
        for older in ("partial", "old"):  # the names of 0.2 and before
            shutil.rmtree(directory.with_name(f".{directory.name}.{older}"), ignore_errors=True)
        with held(partial, folder=True):
            wait_for_all(f"made {partial}")
            yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_config(
    directory: Path, record: dict[str, Any], known: Mapping[Path, str] = MappingProxyType({})
) -> None:
    """Writes config.json, which makes the directory a checkpoint, and digests.json: call it last. `known` are
    SHA-256 as of `write_digests`.
    """
    record = {"format": FORMAT, **record, "params_bytes": stored.stored_bytes(directory)}
    (directory / "config.json").write_text(json.dumps(record, indent=1) + "\n")
    write_digests(directory, known=known)


def network_record(config: NetworkConfig, defaults: Any = None) -> dict[str, Any]:
    """The record of a network in config.json. For a family's core network it also has the sampling defaults:
    `defaults`, or the family's if None.
    """
    kind = row_of(config).kind
    values = to_dict(config)
    if (family := family_drawn_by(kind)) is not None:
        values |= to_dict(family.defaults() if defaults is None else defaults)
    return {"kind": kind, "config": values}


def save_network(
    directory: Path,
    config: NetworkConfig,
    params: Params,
    overwrite: bool = False,
    origin: dict[str, str] | None = None,
    defaults: Any = None,
) -> None:
    """Writes a network. `origin` records in config.json where it comes from; `defaults` are the model's
    sampling defaults.

    Raises FileExistsError when `directory` exists and `overwrite` is false.
    """
    record = network_record(config, defaults) | ({"origin": origin} if origin else {})
    with atomic_directory(directory, overwrite) as partial:
        _write(partial, record, params)


def copy_network(source: Path, directory: Path) -> None:
    """Copies a stored network to `directory`, replacing what is there.

    Raises CheckpointError for a damaged one.
    """
    check_files(source)
    with atomic_directory(directory, overwrite=True) as partial:
        if is_first_process():
            shutil.copytree(source, partial, dirs_exist_ok=True)


def save_lora(
    directory: Path, info: Any, params: Params, overwrite: bool = False, defaults: Any = None
) -> None:
    """Writes a LoRA with its family's record of it (`LoraMethod.info`); `defaults` are its base's sampling
    defaults.

    Raises as `save_network`.
    """
    with atomic_directory(directory, overwrite) as partial:
        write_lora(partial, info, params, defaults)


def write_lora(partial: Path, info: Any, params: Params, defaults: Any = None) -> None:
    """Writes a LoRA into the folder of an `atomic_directory`."""
    record = {name: to_dict(part) for name, part in info._asdict().items()}
    base = family_of_lora(info).core
    record[base] = network_record(info[0], defaults)["config"]
    _write(partial, {"kind": "lora", **record}, params)


def _write(partial: Path, record: dict[str, Any], params: Params) -> None:
    stored.save_params(partial, params)
    if is_first_process():
        write_config(partial, record)


def read_record(directory: Path) -> dict[str, Any]:
    """The content of config.json, after checking format, kind and completeness.

    Raises FileNotFoundError for a missing folder, and CheckpointError unless it is a complete checkpoint.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"no checkpoint directory {directory}")
    path = directory / "config.json"
    try:
        record = read_object(path, {"format": Any, "kind": str}, CheckpointError)
    except FileNotFoundError:
        if (directory / "lora" / "config.json").is_file():
            raise CheckpointError(
                f"{directory} is not a checkpoint itself: name its {directory / 'lora'}"
            ) from None
        found = ", ".join(sorted(path.name for path in directory.iterdir())[:8]) or "nothing"
        raise CheckpointError(
            f"{directory} has no config.json (it holds {found}): it is not a checkpoint, or its writing was "
            "interrupted"
        ) from None
    if record["format"] != FORMAT:
        raise CheckpointError(
            f"{directory} has format {shortened(record['format'])}; this program reads format {FORMAT}"
        )
    check_fields(record, {"params_bytes": int}, str(path), CheckpointError)
    if (size := stored.stored_bytes(directory)) != record["params_bytes"]:
        check_files(directory)  # names the file
        raise CheckpointError(
            f"{directory} holds {size} bytes of parameters where {record['params_bytes']} were "
            "written: it is damaged or was copied in part; copy or convert it again"
        )
    check_record(directory)
    return record


def read_config(directory: Path, kind: str | None = None) -> NetworkConfig:
    """The config of a network.

    Raises as `read_record`, or CheckpointError if the network is not a `kind`.
    """
    found, values = _stored_values(directory, kind)
    if (family := family_drawn_by(found)) is not None:
        values = {name: value for name, value in values.items() if name not in _names(family.defaults)}
    return _parse(NETWORKS[found].config, values, directory)


def read_defaults(directory: Path) -> Any:
    """The sampling defaults that are stored with a family's core network.

    Raises as `read_config`.
    """
    found, values = _stored_values(directory)
    family = family_drawn_by(found)
    assert family is not None
    own = {name: value for name, value in values.items() if name in _names(family.defaults)}
    return _parse(family.defaults, own, directory)


def _stored_values(directory: Path, kind: str | None = None) -> tuple[str, dict[str, Any]]:
    record = read_record(directory)
    found, values = record["kind"], record.get("config", {})
    if found not in NETWORKS or kind not in (None, found):
        raise CheckpointError(f"{directory} holds a {found}, expected {kind or ' or '.join(NETWORKS)}")
    if not isinstance(values, dict):
        raise CheckpointError(f"{Path(directory) / 'config.json'}: config is not an object")
    return found, values


def _names(cls: type) -> set[str]:
    return {field.name for field in dataclasses.fields(cls)}


def read_model(directory: Path) -> Any:
    """The config of a model directory.

    Raises as `read_config`, naming the faulty network.
    """
    directory = Path(directory)
    family = family_with([kind for kind in NETWORKS if (directory / kind).is_dir()])
    networks = family.networks
    if directory.is_dir() and (missing := [kind for kind in networks if not (directory / kind).is_dir()]):
        raise CheckpointError(
            f"{directory} is not a complete model: it lacks {', '.join(missing)}. A model holds "
            f"{', '.join(networks)}, each written by uno-convert"
        )
    configs = {kind: read_config(directory / kind, kind) for kind in networks}
    defaults = read_defaults(directory / family.core)
    try:
        return family.config(**configs, defaults=defaults)
    except ValueError as error:
        raise CheckpointError(f"{directory}: {error}") from None


def read_lora(directory: Path) -> Any:
    """The record of the LoRA in `directory` (`LoraMethod.info` of its family).

    Raises as `read_config`.
    """
    record = read_record(directory)
    if record["kind"] != "lora":
        raise CheckpointError(f"{directory} holds a {record['kind']}, expected a lora")
    family = family_with(record)
    base = record.get(family.core)
    if isinstance(base, dict):  # without the base's sampling defaults
        base = {name: value for name, value in base.items() if name not in _names(family.defaults)}
    info = family.need_lora().info
    values, types = record | {family.core: base}, get_type_hints(info)
    return info(**{name: _parse(cls, values.get(name), directory) for name, cls in types.items()})


def restore_network(
    directory: Path,
    kind: str | None = None,
    mesh: Mesh | None = None,
    dtype: Any = None,
    convert: stored.Convert | None = None,
) -> tuple[NetworkConfig, Params]:
    """A network's config and parameters, sharded over `mesh` by `sharding.rules` (None: on one device).

    `dtype` and `convert` as of `arrays.restore_params`.

    Raises as `read_config`.
    """
    config = read_config(directory, kind)
    return config, stored.restore_params(Path(directory), abstract_params(config), mesh, dtype, convert)


def restore_lora(directory: Path, mesh: Mesh | None = None, dtype: Any = None) -> tuple[Any, Params]:
    """A LoRA's record and tree; see `restore_network`."""
    info = read_lora(directory)
    abstract = family_of_lora(info).need_lora().abstract(info[0], info.lora)
    return info, stored.restore_params(Path(directory), abstract, mesh, dtype)


def family_of_lora(info: Any) -> Family:
    """The family that a LoRA's record belongs to."""
    return next(family for family in FAMILIES if family.lora and isinstance(info, family.lora.info))


def _parse(cls: type, values: Any, directory: Path) -> Any:
    try:
        return from_dict(cls, values)
    except ValueError as error:
        raise CheckpointError(f"{Path(directory) / 'config.json'}: {error}") from None
