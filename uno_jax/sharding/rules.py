"""The layout of every array: a mesh, one table from logical to mesh axes, and NamedSharding trees from both.

Logical axes come from the parameters (`networks.registry.abstract_params`, a family's LoRA) and from the
networks' calls of `spread`; nothing else names a mesh axis.
"""

import math
from typing import Any, cast

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from uno_jax.support.words import counted

MESH_AXES = ("data", "fsdp", "tensor", "sequence")

# Logical axis of a parameter or an activation -> mesh axes. Axes that are not listed are replicated.
RULES: dict[str, tuple[str, ...]] = {
    "embed": ("fsdp",),
    "heads": ("tensor",),
    "mlp": ("tensor",),
    "modulation": ("tensor",),
    "vocab": ("tensor",),
    "rank": ("fsdp",),
    "samples": ("data", "fsdp"),  # FSDP splits the batch too
    "tokens": ("sequence",),
    "pictures": MESH_AXES,  # that the autoencoder encodes or decodes, whose weights every chip has
}
BATCH = PartitionSpec(RULES["samples"])
FREE = PartitionSpec.UNCONSTRAINED
"""In `spread`, an axis that stays as it is."""


def make_mesh(
    data: int = 1,
    fsdp: int = -1,
    tensor: int = 1,
    sequence: int = 1,
    devices: list[jax.Device] | None = None,
) -> Mesh:
    """A mesh with these axes over `devices` (default: all). One size may be -1, for the devices left over.

    Raises ValueError when the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [data, fsdp, tensor, sequence]
    if sizes.count(-1) == 1:
        known = -math.prod(sizes)
        sizes[sizes.index(-1)] = len(devices) // known or 1 if known > 0 else 0
    if min(sizes) < 1 or math.prod(sizes) != len(devices):
        asked = " ".join(f"{axis}={size}" for axis, size in zip(MESH_AXES, sizes, strict=True))
        raise ValueError(f"mesh {asked} does not fit {counted(len(devices), 'device')}")
    types = (AxisType.Auto,) * len(MESH_AXES)
    try:
        arranged = jax.make_mesh(tuple(sizes), MESH_AXES, axis_types=types, devices=devices).devices
    except NotImplementedError:  # a TPU's torus has no such axes
        arranged = np.array(devices).reshape(sizes)
    return Mesh(by_process(arranged), MESH_AXES, axis_types=types)


def by_process(devices: np.ndarray) -> np.ndarray:
    """The mesh's devices reordered so that each process's are consecutive, processes in their first order.

    Ordered by the torus's coordinates alone, a host's samples may be scattered over the batch.
    """
    flat = list(devices.flat)
    order = list(dict.fromkeys(device.process_index for device in flat))
    together = sorted(flat, key=lambda device: order.index(device.process_index))
    return np.array(together, object).reshape(devices.shape)


def partition(mesh: Mesh | AbstractMesh, axes: Any, shape: tuple[int, ...]) -> PartitionSpec:
    """The PartitionSpec of an array with these logical axes.

    A dimension that its mesh axes do not divide, or whose axes an earlier dimension uses, is replicated, so
    that every model runs on every mesh: this costs memory, never correctness.
    """
    places: list[Any] = []
    taken: set[str] = set()
    for name, size in zip(axes, shape, strict=True):
        if name is FREE:
            places.append(FREE)
            continue
        rule = RULES.get(name, ()) if isinstance(name, str) else ()
        fits = rule and not taken & set(rule) and size % math.prod(mesh.shape[axis] for axis in rule) == 0
        taken |= set(rule) if fits else set()
        places.append((rule if len(rule) > 1 else rule[0]) if fits else None)
    return PartitionSpec(*places)


def tree_shardings(mesh: Mesh | AbstractMesh, axes: Any, shapes: Any) -> Any:
    """A tree of NamedShardings from a tree of logical axes (PartitionSpec leaves) and one of shapes."""
    return jax.tree.map(
        lambda names, leaf: NamedSharding(mesh, partition(mesh, names, leaf.shape)),
        axes,
        shapes,
        is_leaf=lambda x: isinstance(x, PartitionSpec),
    )


def shares(name: str) -> int:
    """The number of parts into which a logical axis is cut on the mesh in use (`jax.set_mesh`)."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else math.prod(mesh.shape[axis] for axis in RULES[name])


def spread(x: Array, *axes: Any) -> Array:
    """Constrains an activation with these logical axes to its layout on the mesh in use (`jax.set_mesh`)."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    return cast(Array, jax.lax.with_sharding_constraint(x, partition(mesh, axes, x.shape)))
