"""The arrays of params/, written and read by Orbax."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict, unflatten_dict

from uno_jax.support.trees import Params, TreePath

HOST_LIMIT_GB = 8  # in flight between disk and devices, to bound host memory


def save(folder: Path, params: Params) -> None:
    """Writes the arrays; each process of a run writes its own shards."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(folder, params)


def stored(folder: Path) -> dict[TreePath, Any]:
    """What has the shape and dtype of each array, by its path."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        metadata = checkpointer.metadata(folder)
    return cast(dict[TreePath, Any], flatten_dict(metadata.item_metadata.tree))


def restore(folder: Path, wanted: Mapping[TreePath, jax.ShapeDtypeStruct]) -> dict[TreePath, jax.Array]:
    """The wanted arrays, which may be a few of those that are stored, in their places on the devices."""
    largest = max(each.size * 4 for each in wanted.values())
    args = {
        path: ocp.ArrayRestoreArgs(dtype=each.dtype, sharding=each.sharding, global_shape=each.shape)
        for path, each in wanted.items()
    }
    handler = ocp.PyTreeCheckpointHandler(restore_concurrent_gb=HOST_LIMIT_GB + largest // 10**9)
    with ocp.Checkpointer(handler) as checkpointer:
        # Partial: the tree of a few arrays is a part of what is stored.
        restored = ocp.args.PyTreeRestore(
            item=unflatten_dict(dict(wanted)), restore_args=unflatten_dict(args), partial_restore=True
        )
        return cast(dict[TreePath, jax.Array], flatten_dict(checkpointer.restore(folder, args=restored)))


def read_some(folder: Path, shapes: Params, chosen: Params) -> Params:
    """The arrays that are True in the tree `chosen`, on the host."""
    wanted = jax.tree.map(lambda leaf, keep: leaf if keep else ocp.PLACEHOLDER, shapes, chosen)
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
    # Partial: the scales of kernels in 8 bits stay unread.
    args = ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy, partial_restore=True)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        return cast(Params, checkpointer.restore(folder, args=args))
