"""Low-rank updates for any family: a tree with `down` and `up` at the path of each adapted layer."""

import jax.numpy as jnp

from uno_jax.support.trees import Params


def merge(params: Params, lora: Params, scale: float = 1.0) -> Params:
    """The base with kernel + scale * down @ up at every site, added in float32 and returned in the kernel's
    dtype.

    Used for sampling and export only; training keeps the side path (see `networks.layers.Dense`).
    """

    def walk(base: Params, part: Params) -> Params:
        if "down" in part:
            update = jnp.einsum(
                "lir,lro->lio", part["down"].astype(jnp.float32), part["up"].astype(jnp.float32)
            )
            kernel = base["kernel"]
            return base | {"kernel": (kernel.astype(jnp.float32) + scale * update).astype(kernel.dtype)}
        return base | {key: walk(base[key], part[key]) for key in part}

    return walk(params, lora)
