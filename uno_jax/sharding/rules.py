"""Where every array lives: a mesh, one table from logical to mesh axes, and NamedSharding trees made from
it.

Logical axes come with the parameters (`models.abstract_params`, `lora.abstract_lora`) and where the models
call `spread`; nothing else names a mesh axis.
"""

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

MESH_AXES = ("data", "fsdp", "tensor", "sequence")

# Logical axis of a parameter or an activation -> mesh axes. An axis that is not listed is replicated.
RULES: dict[str, tuple[str, ...]] = {
    "embed": ("fsdp",),
    "heads": ("tensor",),
    "mlp": ("tensor",),
    "modulation": ("tensor",),
    "vocab": ("tensor",),
    "rank": ("fsdp",),
    "samples": ("data", "fsdp"),  # of a batch: FSDP is data parallel too
    "tokens": ("sequence",),
}
BATCH = PartitionSpec(RULES["samples"])


def make_mesh(
    data: int = 1,
    fsdp: int = -1,
    tensor: int = 1,
    sequence: int = 1,
    devices: list[jax.Device] | None = None,
) -> Mesh:
    """A mesh of these axes over `devices` (default all). One size may be -1: whatever is left.

    Raises ValueError when the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [data, fsdp, tensor, sequence]
    if sizes.count(-1) == 1:
        known = -math.prod(sizes)
        sizes[sizes.index(-1)] = len(devices) // known if known > 0 else 0
    if min(sizes) < 1 or math.prod(sizes) != len(devices):
        asked = " ".join(f"{axis}={size}" for axis, size in zip(MESH_AXES, sizes, strict=True))
        raise ValueError(f"mesh {asked} does not fit {len(devices)} devices")
    types = (AxisType.Auto,) * len(MESH_AXES)
    try:
        arranged = jax.make_mesh(tuple(sizes), MESH_AXES, axis_types=types, devices=devices).devices
    except NotImplementedError:  # a TPU's torus has no such axes
        arranged = np.array(devices).reshape(sizes)
    return Mesh(by_process(arranged), MESH_AXES, axis_types=types)


def by_process(devices: np.ndarray) -> np.ndarray:
    """The mesh's devices with those of a process one after another, processes as they come: by a torus'
    coordinates alone the samples of a host may lie scattered over a batch.
    """
    flat = list(devices.flat)
    order = list(dict.fromkeys(device.process_index for device in flat))
    together = sorted(flat, key=lambda device: order.index(device.process_index))
    return np.array(together, object).reshape(devices.shape)


def partition(mesh: Any, axes: Any, shape: tuple[int, ...]) -> PartitionSpec:
    """Where an array with these logical axes lies.

    A dimension that its mesh axes do not divide, or whose axes an earlier dimension has, is replicated, so
    that every model runs on every mesh: it costs memory, never correctness.
    """
    places: list[tuple[str, ...] | str | None] = []
    taken: set[str] = set()
    for name, size in zip(axes, shape, strict=True):
        rule = RULES.get(name, ()) if isinstance(name, str) else ()
        fits = rule and not taken & set(rule) and size % math.prod(mesh.shape[axis] for axis in rule) == 0
        taken |= set(rule) if fits else set()
        places.append((rule if len(rule) > 1 else rule[0]) if fits else None)
    return PartitionSpec(*places)


def tree_shardings(mesh: Mesh, axes: Any, shapes: Any) -> Any:
    """A tree of NamedSharding from a tree of logical axes (PartitionSpec leaves) and one of shapes."""
    return jax.tree.map(
        lambda names, leaf: NamedSharding(mesh, partition(mesh, names, leaf.shape)),
        axes,
        shapes,
        is_leaf=lambda x: isinstance(x, PartitionSpec),
    )


def spread(x: Array, *axes: str | None) -> Array:
    """An activation with these logical axes, laid out over the mesh in use (`jax.set_mesh`)."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    return jax.lax.with_sharding_constraint(x, partition(mesh, axes, x.shape))
