"""The parameters in a checkpoint's directory, in either form: params/ (Orbax) or params.safetensors.

The file is the compact form, with parameter paths joined by "/" as names (`uno-convert pack` writes it).
Restoring reads each shard directly to its device.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh, SingleDeviceSharding

from uno_jax.sharding.rules import tree_shardings
from uno_jax.support.errors import CheckpointError
from uno_jax.support.trees import Params, TreePath
from uno_jax.support.words import counted
from uno_jax.weights.integrity import COMPACT, check_files
from uno_jax.weights.safetensors_file import read_header

FOLDER, FILE = "params", COMPACT
Convert = Callable[[TreePath, jax.Array], Any]
HOST_LIMIT_GB = 8  # in flight between disk and devices, to bound host memory


def is_compact(directory: Path) -> bool:
    return (Path(directory) / FILE).is_file()


def holds_params(directory: Path) -> bool:
    """Whether `directory` looks like a network or a LoRA in the native format."""
    return is_compact(directory) or (Path(directory) / FOLDER).is_dir()


def stored_bytes(directory: Path) -> int:
    files = [*(Path(directory) / FOLDER).rglob("*"), Path(directory) / FILE]
    return sum(path.stat().st_size for path in files if path.is_file())


def save_params(directory: Path, params: Params) -> None:
    """Writes params/ into `directory`; each process of a run writes its own shards."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(Path(directory).absolute() / FOLDER, params)


def stored_arrays(directory: Path) -> dict[TreePath, jax.ShapeDtypeStruct]:
    """Shape and dtype of every array by its path.

    Raises CheckpointError for a damaged file.
    """
    stored: Mapping[TreePath, Any]
    if is_compact(directory):
        tensors, _ = read_header(Path(directory) / FILE)
        stored = {tuple(name.split("/")): tensor for name, tensor in tensors.items()}
    else:
        with ocp.PyTreeCheckpointer() as checkpointer:
            metadata = checkpointer.metadata((Path(directory) / FOLDER).absolute())
        stored = flatten_dict(metadata.item_metadata.tree)
    return {path: jax.ShapeDtypeStruct(tuple(leaf.shape), leaf.dtype) for path, leaf in stored.items()}


def restore_params(
    directory: Path,
    abstract: tuple[Params, Params],
    mesh: Mesh | None = None,
    dtype: Any = None,
    convert: Convert | None = None,
) -> Params:
    """The tree whose (shapes, logical axes) are `abstract`, sharded over `mesh` (None: on one device).

    `dtype` None keeps each array's own. With `convert` arrays are read one after another, and what it returns
    stands in their places.

    Raises CheckpointError if the stored arrays have other names or shapes, or a file is not as written.
    """
    check_files(Path(directory))
    shapes, axes = abstract
    here = SingleDeviceSharding(jax.local_devices()[0])
    shardings = jax.tree.map(lambda _: here, shapes) if mesh is None else tree_shardings(mesh, axes, shapes)
    stored = stored_arrays(directory)
    _check_arrays(directory, stored, flatten_dict(shapes))
    kinds = jax.tree_util.tree_map_with_path(
        lambda path, _: np.dtype(dtype or stored[tuple(key.key for key in path)].dtype), shapes
    )
    if is_compact(directory):
        return _from_file(directory / FILE, shardings, kinds, convert)
    if convert is None:
        return _from_folder(directory / FOLDER, shapes, shardings, kinds)
    converted: dict[TreePath, Any] = {}
    for path in flatten_dict(shapes):
        alone = [{path: flatten_dict(tree)[path]} for tree in (shapes, shardings, kinds)]
        part = _from_folder(directory / FOLDER, *map(unflatten_dict, alone))
        converted[path] = convert(path, flatten_dict(part).pop(path))
    return cast(Params, unflatten_dict(converted))


def _from_file(file: Path, shardings: Params, kinds: Params, convert: Convert | None) -> Params:
    tensors, _ = read_header(file)

    def place(keys: Any, sharding: Any, kind: np.dtype) -> Any:
        path = tuple(key.key for key in keys)
        tensor = tensors["/".join(path)]
        whole = tensor.read()
        parts = [
            jax.device_put(np.array(whole[index], kind), device)
            for device, index in sharding.addressable_devices_indices_map(tensor.shape).items()
        ]
        array = jax.make_array_from_single_device_arrays(tensor.shape, sharding, parts)
        return array if convert is None else convert(path, array)

    return cast(Params, jax.tree_util.tree_map_with_path(place, shardings, kinds))


def _from_folder(folder: Path, shapes: Params, shardings: Params, kinds: Params) -> Params:
    largest = max(leaf.size * 4 for leaf in jax.tree.leaves(shapes))
    args = jax.tree.map(
        lambda shape, sharding, kind: ocp.ArrayRestoreArgs(
            dtype=kind, sharding=sharding, global_shape=shape.shape
        ),
        shapes,
        shardings,
        kinds,
    )
    handler = ocp.PyTreeCheckpointHandler(restore_concurrent_gb=HOST_LIMIT_GB + largest // 10**9)
    with ocp.Checkpointer(handler) as checkpointer:
        # Partial: the tree of a single array is a part of what is stored.
        restored = ocp.args.PyTreeRestore(item=shapes, restore_args=args, partial_restore=True)
        return cast(Params, checkpointer.restore(folder.absolute(), args=restored))


def read_some(directory: Path, shapes: Params, chosen: Params) -> list[np.ndarray]:
    """The arrays that are True in the tree `chosen`, in the tree's order, on the host.

    Raises CheckpointError for a damaged file.
    """
    check_files(Path(directory))
    if is_compact(directory):
        tensors, _ = read_header(Path(directory) / FILE)
        return [tensors["/".join(path)].read() for path, keep in sorted(flatten_dict(chosen).items()) if keep]
    wanted = jax.tree.map(lambda leaf, keep: leaf if keep else ocp.PLACEHOLDER, shapes, chosen)
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
    args = ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        restored = checkpointer.restore((Path(directory) / FOLDER).absolute(), args=args)
    kept = jax.tree.leaves(chosen)
    return [array for keep, array in zip(kept, jax.tree.leaves(restored), strict=True) if keep]


def _check_arrays(directory: Path, stored: Mapping[TreePath, Any], expected: Mapping[TreePath, Any]) -> None:
    """Raises CheckpointError if names or shapes differ, with a clearer message than Orbax's."""
    found, wanted = (
        {".".join(path): leaf.shape for path, leaf in arrays.items()} for arrays in (stored, expected)
    )
    if found != wanted:
        wrong = [
            f"{name}: {found.get(name, 'absent')} stored, {wanted.get(name, 'absent')} expected"
            for name in sorted(found.keys() | wanted.keys())
            if found.get(name) != wanted.get(name)
        ]
        raise CheckpointError(
            f"{directory} does not fit its config.json in {counted(len(wrong), 'array')}: "
            f"{'; '.join(wrong[:4])}"
        )
