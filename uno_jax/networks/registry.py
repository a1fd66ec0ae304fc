"""The Flax networks behind pure functions: parameters are plain nested dicts everywhere else.

`abstract_params` gives shapes and logical axes without any array; `init_params` makes random ones.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from uno_jax.networks.clip import CLIPText
from uno_jax.networks.config import (
    CLIPConfig,
    EfficientNetConfig,
    MMDiTConfig,
    T5Config,
    VAEConfig,
    ViTConfig,
)
from uno_jax.networks.efficientnet import EfficientNet
from uno_jax.networks.mmdit import MMDiT
from uno_jax.networks.t5 import T5Encoder
from uno_jax.networks.vae import Autoencoder
from uno_jax.networks.vit import ViT

NetworkConfig = MMDiTConfig | VAEConfig | T5Config | CLIPConfig | EfficientNetConfig | ViTConfig
Params = dict[str, Any]


def network(config: NetworkConfig, dtype: Any = jnp.float32) -> nn.Module:
    """The Flax module of a config, computing in `dtype`."""
    modules = {
        MMDiTConfig: MMDiT,
        VAEConfig: Autoencoder,
        T5Config: T5Encoder,
        CLIPConfig: CLIPText,
        EfficientNetConfig: EfficientNet,
        ViTConfig: ViT,
    }
    return modules[type(config)](config, dtype)  # type: ignore[arg-type]


def apply(
    config: NetworkConfig,
    variables: dict[str, Params],
    *inputs: Any,
    dtype: Any = jnp.float32,
    method: Any = None,
) -> Any:
    """Runs a network: `variables` is {"params": tree}, and for the MM-DiT optionally "lora"."""
    return network(config, dtype).apply(variables, *inputs, method=method)


def _init(config: NetworkConfig, key: jax.Array) -> Any:
    """Initialises with the smallest valid inputs: no parameter's shape depends on a length."""
    tokens = jnp.zeros((1, 2), jnp.int32)
    match config:
        case MMDiTConfig():
            img, txt = jnp.zeros((1, 1, config.in_channels)), jnp.zeros((1, 1, config.context_in_dim))
            one, vec = jnp.ones(1), jnp.zeros((1, config.vec_in_dim))
            guidance = one if config.guidance_embed else None
            inputs: tuple = (img, txt, vec, one, np.zeros((2, 3)), None, guidance)
        case VAEConfig():
            side = config.downsampling
            inputs = (jnp.zeros((1, side, side, 3)),)
        case T5Config() | CLIPConfig():
            inputs = (tokens,)
        case EfficientNetConfig():
            inputs = (jnp.zeros((1, 32, 32, 3)),)
        case ViTConfig():
            side = config.patch_size
            inputs = (jnp.zeros((1, side, side, 3)),)
    return network(config).init(key, *inputs)["params"]


def abstract_params(config: NetworkConfig, dtype: Any = jnp.float32) -> tuple[Params, Params]:
    """Shapes (ShapeDtypeStruct leaves of `dtype`) and logical axis names (PartitionSpec leaves) of a
    network.
    """
    boxed = jax.eval_shape(lambda: _init(config, jax.random.key(0)))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), nn.unbox(boxed))
    return shapes, nn.get_partition_spec(boxed)


def init_params(config: NetworkConfig, key: jax.Array, dtype: Any = jnp.float32) -> Params:
    """Random parameters as a plain tree. Jit it with out_shardings to make them sharded from the start."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype), nn.unbox(_init(config, key)))
