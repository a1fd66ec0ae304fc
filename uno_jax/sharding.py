"""Where every array lives: a mesh, one table from logical to mesh axes, and NamedSharding trees made from it.

Logical axes come with the parameters (`models.abstract_params`, `lora.abstract_lora`); nothing else names a
mesh axis.
"""

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

MESH_AXES = ("data", "fsdp", "tensor")

# Logical axis of a parameter -> mesh axis. An axis that is not listed is replicated.
RULES: dict[str, str] = {
    "embed": "fsdp",
    "heads": "tensor",
    "mlp": "tensor",
    "modulation": "tensor",
    "vocab": "tensor",
    "rank": "fsdp",
}
BATCH = PartitionSpec(("data", "fsdp"))  # samples are spread over both: FSDP is data parallel too


def make_mesh(
    data: int = 1, fsdp: int = -1, tensor: int = 1, devices: list[jax.Device] | None = None
) -> Mesh:
    """A mesh (data, fsdp, tensor) over `devices` (default all). One size may be -1: whatever is left.

    Raises ValueError when the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [data, fsdp, tensor]
    if sizes.count(-1) == 1:
        known = -data * fsdp * tensor
        sizes[sizes.index(-1)] = len(devices) // known if known > 0 else 0
    if min(sizes) < 1 or sizes[0] * sizes[1] * sizes[2] != len(devices):
        raise ValueError(f"mesh data={data} fsdp={fsdp} tensor={tensor} does not fit {len(devices)} devices")
    return jax.make_mesh(tuple(sizes), MESH_AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def tree_shardings(mesh: Mesh, axes: Any, shapes: Any) -> Any:
    """A tree of NamedSharding from a tree of logical axes (PartitionSpec leaves) and one of shapes.

    A dimension that its mesh axis does not divide, or whose axis an earlier dimension has, is replicated, so
    that every model runs on every mesh: it costs memory, never correctness.
    """

    def leaf(names: PartitionSpec, shape: jax.ShapeDtypeStruct) -> NamedSharding:
        places: list[str | None] = []
        for name, size in zip(names, shape.shape, strict=True):
            axis = RULES.get(name) if isinstance(name, str) else None
            fits = axis is not None and axis not in places and size % mesh.shape[axis] == 0
            places.append(axis if fits else None)
        return NamedSharding(mesh, PartitionSpec(*places))

    return jax.tree.map(leaf, axes, shapes, is_leaf=lambda x: isinstance(x, PartitionSpec))
