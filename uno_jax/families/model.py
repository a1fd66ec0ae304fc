"""A model in memory: its config and its parameters, as one pytree."""

from dataclasses import replace
from typing import Any, Self

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
    `homes` are the shardings of an offloaded model's parameters, which lie in the host's memory; None for
    one whose parameters are on its devices.
    """

    config: Any = flax.struct.field(pytree_node=False)
    params: dict[str, Params]
    unope: Any = flax.struct.field(pytree_node=False, default=None)
    dtype: Any = flax.struct.field(pytree_node=False, default=None)
    tokenizer: Any = flax.struct.field(pytree_node=False, default=None)
    homes: Any = flax.struct.field(pytree_node=False, default=None)

    def using(self, *kinds: str) -> Self:
        """The model with these networks alone, on its devices. Those of an offloaded model are copied there,
        and leave with what this returns.
        """
        chosen = {kind: self.params[kind] for kind in kinds if kind in self.params}
        if self.homes is None:
            return replace(self, params=chosen)
        placed = {kind: jax.device_put(chosen[kind], self.homes[kind]) for kind in chosen.keys() & self.homes}
        return replace(self, params=chosen | placed, homes=None)  # a LoRA of a call's own has no home

    @property
    def compute_dtype(self) -> jnp.dtype:
        """The dtype that the networks compute in."""
        dtype: jnp.dtype = jnp.dtype(self.dtype or jax.tree.leaves(self.params)[0].dtype)
        return dtype

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {count(tree) / 1e6:,.1f} M" for name, tree in self.params.items())
        convention = "" if self.unope is None else f", {self.unope}"
        return f"Model({sizes}; {self.compute_dtype}{convention})"
