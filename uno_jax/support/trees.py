"""Parameter trees: plain nested dicts of arrays, or of placeholders such as ShapeDtypeStructs.

`flax.traverse_util.flatten_dict` and `unflatten_dict` convert them to paths and back.
"""

import math
from typing import Any

import jax
import numpy as np

Params = dict[str, Any]
AnyArray = jax.Array | np.ndarray
TreePath = tuple[str, ...]


def subtree(tree: Params, path: TreePath) -> Any:
    """The subtree or leaf at a path of keys."""
    for key in path:
        tree = tree[key]
    return tree


def join(left: Params, right: Params) -> Params:
    """The tree with the leaves of both, which must not share any."""
    shared = {key: join(left[key], right[key]) if key in left else right[key] for key in right}
    return left | shared


def count(tree: Params) -> int:
    """The number of parameters in a tree of arrays or shapes; a kernel in 8 bits without its scales."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree, is_leaf=lambda x: hasattr(x, "shape")))
