"""Every network in one table, and functions for any of them: make its module, apply it, initialise it.

Outside Flax, parameters are plain nested dicts. `abstract_params` gives their shapes and logical axes without
making arrays; `init_params` makes random ones. To add a network, add a file here and a row to `NETWORKS`.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from uno_jax.networks import clip, efficientnet, mmdit, mot, t5, vae, vit
from uno_jax.networks.blocks import separate
from uno_jax.networks.fused import Fused, cut_for_gpu, cut_layers, cut_traced
from uno_jax.networks.known_shapes import Parameter, Parameters, keep_known, read_known
from uno_jax.networks.mmdit_blocks import BLOCKS
from uno_jax.networks.mmdit_config import CUT_ON_GPUS, FUSED, MMDiTConfig
from uno_jax.support.trees import Params

NetworkConfig = Any  # a frozen dataclass: the `config` of a row


class Network(NamedTuple):
    """One row. `kind` is the network's name, and that of its folder in a model directory."""

    kind: str
    config: type
    module: type[nn.Module]
    smallest_inputs: Callable[[Any], tuple[Any, ...]]
    """The smallest valid inputs for a config. They suffice, as no parameter's shape depends on a length."""
    large: bool = False
    """Whether its frozen blocks are worth holding in 8 bits (`networks.quantize`)."""
    rounds_tokens: bool = False
    """Whether its blocks also multiply in 8 bits where the base says so. T5's do not: it runs once a picture,
    and a few of its activations are a hundred times as large as the others.
    """
    separable: tuple[str, ...] = ()
    """Names of the stacked blocks that the module also takes as separate ones (`networks.blocks`)."""
    fused: Fused = Fused()
    """Layers that are cut for tensor parallelism (`networks.fused`)."""
    cut_on_gpus: dict[str, Fused] = {}
    """Layers, by the blocks that they are in, that are cut on GPUs."""


NETWORKS: dict[str, Network] = {
    row.kind: row
    for row in (
        Network(
            "mmdit",
            MMDiTConfig,
            mmdit.MMDiT,
            mmdit.smallest_inputs,
            large=True,
            rounds_tokens=True,
            separable=tuple(BLOCKS),
            fused=FUSED,
            cut_on_gpus=CUT_ON_GPUS,
        ),
        Network("mot", mot.MoTConfig, mot.MoT, mot.smallest_inputs, large=True),
        Network("vae", vae.VAEConfig, vae.Autoencoder, vae.smallest_inputs),
        Network("t5", t5.T5Config, t5.T5Encoder, t5.smallest_inputs, large=True),
        Network("clip", clip.CLIPConfig, clip.CLIPText, clip.smallest_inputs),
        Network("vit", vit.ViTConfig, vit.ViT, vit.smallest_inputs),
        Network(
            "efficientnet",
            efficientnet.EfficientNetConfig,
            efficientnet.EfficientNet,
            efficientnet.smallest_inputs,
        ),
    )
}


def row_of(config: NetworkConfig) -> Network:
    """The row of a network's config."""
    return next(row for row in NETWORKS.values() if isinstance(config, row.config))


def network(config: NetworkConfig, dtype: DTypeLike = jnp.float32) -> nn.Module:
    """The Flax module of a config, computing in `dtype`."""
    return row_of(config).module(config, dtype)


def apply(
    config: NetworkConfig,
    variables: dict[str, Params],
    *inputs: Any,
    dtype: DTypeLike = jnp.float32,
    method: Any = None,
) -> Any:
    """Runs a network. `variables` is {"params": tree}, for the MM-DiT optionally with "lora"."""
    return network(config, dtype).apply(variables, *inputs, method=method)


def abstract_params(config: NetworkConfig, dtype: Any = jnp.float32) -> tuple[Params, Params]:
    """A network's shapes (ShapeDtypeStruct leaves of `dtype`) and logical axes (PartitionSpec leaves)."""
    known = _parameters(config)
    shapes = {path: jax.ShapeDtypeStruct(each.shape, dtype) for path, each in known.items()}
    axes = {path: PartitionSpec(*each.axes) for path, each in known.items()}
    return unflatten_dict(shapes), unflatten_dict(axes)


@lru_cache(maxsize=64)
def _parameters(config: NetworkConfig) -> Parameters:
    """A network's parameters, traced where no earlier start kept them."""
    if known := read_known(config):
        return known
    boxed = jax.eval_shape(lambda: _init(config, jax.random.key(0)))
    shapes, axes = flatten_dict(nn.unbox(boxed)), flatten_dict(nn.get_partition_spec(boxed))
    found = {path: Parameter(leaf.shape, tuple(axes[path])) for path, leaf in shapes.items()}
    keep_known(config, found)
    return found


def arrange(kind: str, params: Params, platform: str) -> Params:
    """A network's stacked parameters, or their shapes, as the network runs fastest on "cpu", "gpu" or "tpu":
    layers cut by the axis over which they are sharded, and on GPUs more of them, and blocks separate. The
    arrays that this replaces are deleted.
    """
    row, params = NETWORKS[kind], cut(kind, params)
    return separate(cut_for_gpu(params, row.cut_on_gpus), row.separable) if platform == "gpu" else params


def cut(kind: str, params: Params) -> Params:
    """Its layers cut by the axis over which they are sharded, and no more."""
    return cut_layers(params, NETWORKS[kind].fused)


def cut_trained(trees: dict[str, Params]) -> dict[str, Params]:
    """Networks and a LoRA, all stacked, cut within a program. The LoRA's layers have the network's names."""
    return {kind: cut_traced(tree, _fused(kind)) for kind, tree in trees.items()}


def _fused(kind: str) -> Fused:
    named = [NETWORKS[kind]] if kind in NETWORKS else NETWORKS.values()
    return Fused(*(tuple(name for row in named for name in row.fused[axis]) for axis in range(2)))


def init_params(config: NetworkConfig, key: jax.Array, dtype: Any = jnp.float32) -> Params:
    """Random parameters as a plain tree. Jit this with out_shardings to create them sharded."""
    return cast(Params, jax.tree.map(lambda leaf: leaf.astype(dtype), nn.unbox(_init(config, key))))


def _init(config: NetworkConfig, key: jax.Array) -> Any:
    inputs = row_of(config).smallest_inputs(config)
    return network(config).init(key, *inputs)["params"]
