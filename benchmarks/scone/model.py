"""The model of Scone's benchmarks, a narrow decoder of 12 layers, and a picture's sequence for it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uno_jax.families.scone.splits import Reference, drawing_splits, rope_positions
from uno_jax.networks.mot import MoT, MoTConfig, MoTInputs
from uno_jax.networks.registry import abstract_params
from uno_jax.networks.splits import Layout, Splits
from uno_jax.support.trees import Params

CONFIG = MoTConfig(
    hidden_size=512,
    intermediate_size=1408,
    num_layers=12,
    num_heads=8,
    num_kv_heads=2,
    head_dim=64,
    vocab_size=256,
    vit_size=48,
    bos_id=252,
    eos_id=253,
    image_start_id=254,
    image_end_id=255,
)
SPLITS = drawing_splits([Reference((16, 16), (12, 12))], 32, (16, 16))  # 694 tokens


def with_layers(config: MoTConfig, layers: int) -> MoTConfig:
    first = min(config.bridge_layer, layers - 1)
    return replace(config, num_layers=layers, bridge_layer=first, bridge_masked=(first + 1, first + 8))


def random_params(config: MoTConfig) -> Params:
    """Both experts with the same random weights, so that one decoder of a single expert computes the same."""
    rng = np.random.default_rng(0)

    def values(path: Sequence[jax.tree_util.DictKey], leaf: jax.ShapeDtypeStruct) -> jax.Array:
        scale = leaf.shape[-2] ** -0.5 if path[-1].key == "kernel" else 0.1
        drawn = scale * rng.standard_normal(leaf.shape, np.float32)
        return jnp.asarray((path[-1].key == "scale") + drawn, jnp.float32)

    params: Params = jax.tree_util.tree_map_with_path(values, abstract_params(config)[0])
    blocks = params["blocks"]
    copied = jax.tree.map(jnp.copy, {"gen": blocks["und"], "norm_gen": params["norm_und"]})
    return params | {"blocks": blocks | {"gen": copied["gen"]}, "norm_gen": copied["norm_gen"]}


def random_inputs(config: MoTConfig, splits: Splits) -> MoTInputs:
    """Random content of a sequence, its targets at time 0.7."""
    rng = np.random.default_rng(1)

    def normal(tokens: int, width: int) -> jax.Array:
        return jnp.asarray(rng.standard_normal((1, tokens, width), np.float32))

    texts = [split.tokens for split in splits if split.kind == "text"]
    targets = sum(split.kind == "target" for split in splits)
    return MoTInputs(
        text=tuple(jnp.asarray(rng.integers(0, config.bos_id, (1, tokens))) for tokens in texts),
        cells=tuple(normal(split.tokens, config.vit_size) for split in splits if split.kind == "vit"),
        latents=tuple(normal(split.tokens, config.patch_channels) for split in splits if split.generated),
        times=jnp.full((1, targets), 0.7),
        positions=jnp.asarray(rope_positions(splits))[None],
    )


def velocity(config: MoTConfig, splits: Splits) -> Callable[[Params, MoTInputs], Any]:
    """The velocity of the last split, from parameters and inputs without positions."""

    def run(params: Params, inputs: MoTInputs) -> Any:
        inputs = inputs._replace(positions=rope_positions(splits)[None])
        variables = {"params": params}
        hidden: Any = MoT(config).apply(variables, inputs, Layout(splits))
        drawn = hidden.gen[:, -splits[-1].tokens :]
        return MoT(config).apply(variables, drawn, method="velocity")

    return run


def abstract_inputs(config: MoTConfig, splits: Splits) -> MoTInputs:
    def shapes(width: int, *kinds: str) -> tuple[jax.ShapeDtypeStruct, ...]:
        return tuple(shape(1, split.tokens, width) for split in splits if split.kind in kinds)

    texts = tuple(shape(1, split.tokens, dtype=jnp.int32) for split in splits if split.kind == "text")
    latents = shapes(config.patch_channels, "vae", "target")
    return MoTInputs(texts, shapes(config.vit_size, "vit"), latents, shape(1, 1), shape(1, 0))


def shape(*sizes: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)
