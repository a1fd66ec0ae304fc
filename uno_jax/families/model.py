"""A model in memory: its config and its parameters, as one pytree."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from uno_jax.support.trees import Params, count


@flax.struct.dataclass(repr=False)
class Model:
    """A model config and the parameters of its networks.

    `params` maps the names of networks, and "lora" if one runs as a side path, to plain trees. `unope` is the
    position convention of the merged LoRA, None without one. `dtype` is what the networks compute in; None
    means the dtype of the parameters. `tokenizer` is the one that lies beside the weights, if one does.
    """

    config: Any = flax.struct.field(pytree_node=False)
    params: dict[str, Params]
    unope: Any = flax.struct.field(pytree_node=False, default=None)
    dtype: Any = flax.struct.field(pytree_node=False, default=None)
    tokenizer: Any = flax.struct.field(pytree_node=False, default=None)

    @property
    def compute_dtype(self) -> jnp.dtype:
        """The dtype that the networks compute in."""
        dtype: jnp.dtype = jnp.dtype(self.dtype or jax.tree.leaves(self.params)[0].dtype)
        return dtype

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {count(tree) / 1e6:,.1f} M" for name, tree in self.params.items())
        convention = "" if self.unope is None else f", {self.unope}"
        return f"Model({sizes}; {self.compute_dtype}{convention})"
