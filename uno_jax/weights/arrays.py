"""The parameters in a checkpoint's directory, in either form: params/ (Orbax) or params.safetensors.

The file is the compact form, with parameter paths joined by "/" as names (`uno-convert pack` writes it).
Restoring reads each shard directly to its device. Only functions that need Orbax import `orbax_arrays`: its
import takes longer than reading a compact model.
"""

from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh, Sharding, SingleDeviceSharding

from uno_jax.sharding.rules import tree_shardings
from uno_jax.support.atomic import check_utf8
from uno_jax.support.errors import CheckpointError
from uno_jax.support.trees import Params, TreePath
from uno_jax.support.words import counted
from uno_jax.weights.int8 import StoredKernel, int8_kernels, scale_axes, scale_path, scale_shape, widen
from uno_jax.weights.integrity import COMPACT, check_files
from uno_jax.weights.safetensors_file import read_header

FOLDER, FILE = "params", COMPACT
Convert = Callable[[TreePath, jax.Array | StoredKernel], Any]
Wanted = Mapping[TreePath, jax.ShapeDtypeStruct]
"""The arrays to be read, with their places on the devices."""


def is_compact(directory: Path) -> bool:
    return (Path(directory) / FILE).is_file()


def holds_params(directory: Path) -> bool:
    """Whether `directory` looks like a network or a LoRA in the native format."""
    return is_compact(directory) or (Path(directory) / FOLDER).is_dir()


def stored_bytes(directory: Path) -> int:
    files = [*(Path(directory) / FOLDER).rglob("*"), Path(directory) / FILE]
    return sum(path.stat().st_size for path in files if path.is_file())


def orbax_path(path: Path) -> Path:
    """The path as Orbax and tensorstore take it: absolute, and without "..".

    Raises CheckpointError for one that is not UTF-8.
    """
    check_utf8(path, "Orbax's arrays", CheckpointError)
    return Path(path).resolve()


def save_params(directory: Path, params: Params) -> None:
    """Writes params/ into `directory`; each process of a run writes its own shards.

    Raises as `orbax_path`.
    """
    from uno_jax.weights import orbax_arrays

    orbax_arrays.save(orbax_path(directory) / FOLDER, params)


def stored_arrays(directory: Path) -> dict[TreePath, jax.ShapeDtypeStruct]:
    """Shape and dtype of every array by its path.

    Raises CheckpointError for a damaged file.
    """
    stored: Mapping[TreePath, Any]
    if is_compact(directory):
        tensors, _ = read_header(Path(directory) / FILE)
        stored = {tuple(name.split("/")): tensor for name, tensor in tensors.items()}
    else:
        from uno_jax.weights import orbax_arrays

        stored = orbax_arrays.stored(orbax_path(directory) / FOLDER)
    return {path: jax.ShapeDtypeStruct(tuple(leaf.shape), leaf.dtype) for path, leaf in stored.items()}


def restore_params(
    directory: Path,
    abstract: tuple[Params, Params],
    mesh: Mesh | None = None,
    dtype: Any = None,
    convert: Convert | None = None,
) -> Params:
    """The tree whose (shapes, logical axes) are `abstract`, sharded over `mesh` (None: on one device).

    `dtype` None keeps each array's own; kernels that are stored in 8 bits are widened to it, or to bfloat16.
    With `convert` arrays are read one after another, and what it returns stands in their places; it gets an
    `int8.StoredKernel` for what is stored as one.

    Raises CheckpointError if the stored arrays have other names, shapes or kinds of numbers, or a file is not
    as written.
    """
    check_files(Path(directory))
    wanted, scales = _plan_reading(directory, abstract, mesh, dtype)
    name, read_from = (FILE, _from_file) if is_compact(directory) else (FOLDER, _from_folder)

    def read(*paths: TreePath) -> dict[TreePath, jax.Array]:
        return read_from(Path(directory) / name, {path: wanted[path] for path in paths})

    def read_one(path: TreePath) -> jax.Array | StoredKernel:
        if path not in scales:
            return read(path).pop(path)  # popped, so that it can be freed as soon as it is converted
        parts = read(path, scales[path])
        return StoredKernel(parts[path], parts[scales[path]])

    paths = [path for path in wanted if path not in scales.values()]
    made: dict[TreePath, Any]
    if convert is not None:
        made = {path: convert(path, read_one(path)) for path in paths}
    else:
        made = dict(read(*(path for path in paths if path not in scales)))
        for path in scales:
            made[path] = widen(cast(StoredKernel, read_one(path)), dtype or jnp.bfloat16)
    return cast(Params, unflatten_dict({path: made[path] for path in paths}))


def _plan_reading(
    directory: Path, abstract: tuple[Params, Params], mesh: Mesh | None, dtype: Any
) -> tuple[Wanted, dict[TreePath, TreePath]]:
    """What is to be read, by its path, and the paths of the scales of kernels that are stored in 8 bits."""
    stored = stored_arrays(directory)
    shapes, axes = (cast(dict[TreePath, Any], flatten_dict(tree)) for tree in abstract)
    scales = {path: scale_path(path) for path in int8_kernels(stored) & shapes.keys()}
    shapes |= {scale: scale_shape(shapes[path]) for path, scale in scales.items()}
    axes |= {scale: scale_axes(axes[path]) for path, scale in scales.items()}
    _check_arrays(directory, stored, shapes, scales)
    here = SingleDeviceSharding(jax.local_devices()[0])
    places = dict.fromkeys(shapes, here) if mesh is None else tree_shardings(mesh, axes, shapes)
    as_stored = {*scales, *scales.values()} if dtype else shapes.keys()
    wanted = {
        path: jax.ShapeDtypeStruct(
            shape.shape, stored[path].dtype if path in as_stored else dtype, sharding=places[path]
        )
        for path, shape in shapes.items()
    }
    return wanted, scales


def _from_file(file: Path, wanted: Wanted) -> dict[TreePath, jax.Array]:
    tensors, _ = read_header(file)

    def place(path: TreePath, as_wanted: jax.ShapeDtypeStruct) -> jax.Array:
        tensor, sharding = tensors["/".join(path)], cast(Sharding, as_wanted.sharding)
        whole = tensor.read()
        parts = [
            jax.device_put(np.array(whole[index], as_wanted.dtype), device)
            for device, index in sharding.addressable_devices_indices_map(tensor.shape).items()
        ]
        return jax.make_array_from_single_device_arrays(tensor.shape, sharding, parts)

    return {path: place(path, each) for path, each in wanted.items()}


def _from_folder(folder: Path, wanted: Wanted) -> dict[TreePath, jax.Array]:
    from uno_jax.weights import orbax_arrays

    return orbax_arrays.restore(orbax_path(folder), wanted)


def read_some(directory: Path, shapes: Params, chosen: Params) -> list[np.ndarray]:
    """The arrays that are True in the tree `chosen`, in the tree's order, on the host.

    Raises CheckpointError for a damaged file.
    """
    check_files(Path(directory))
    if is_compact(directory):
        tensors, _ = read_header(Path(directory) / FILE)
        return [tensors["/".join(path)].read() for path, keep in sorted(flatten_dict(chosen).items()) if keep]
    from uno_jax.weights import orbax_arrays

    restored = orbax_arrays.read_some(orbax_path(directory) / FOLDER, shapes, chosen)
    kept = jax.tree.leaves(chosen)
    return [array for keep, array in zip(kept, jax.tree.leaves(restored), strict=True) if keep]


def _check_arrays(
    directory: Path,
    stored: Mapping[TreePath, Any],
    expected: Mapping[TreePath, Any],
    in_8_bits: Container[TreePath],
) -> None:
    """Raises CheckpointError if names, shapes or kinds of numbers differ, with a clearer message than
    Orbax's.
    """
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
    for path, leaf in stored.items():
        if path not in in_8_bits and not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise CheckpointError(
                f"{directory}: {'.'.join(path)} is stored as {leaf.dtype}, expected floating-point numbers, "
                f"or int8 with {'.'.join(scale_path(path))} beside it"
            )
