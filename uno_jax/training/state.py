"""A run's parameters and state: networks restored or initialised sharded, then split into frozen and
trainable.
"""

import dataclasses
import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from uno_jax.data.cached_encodings import encoders_of
from uno_jax.families.uno.lora import abstract_lora, block_indices, init_lora, nest
from uno_jax.families.uno.types import TrainState
from uno_jax.networks.config import PRESETS, ModelConfig
from uno_jax.networks.registry import Params, abstract_params, init_params
from uno_jax.sharding.rules import make_mesh, tree_shardings
from uno_jax.training.config import RecipeError, TrainConfig
from uno_jax.training.optimizer import make_optimizer
from uno_jax.weights.checkpoint import NETWORKS, read_config, restore_network
from uno_jax.weights.load import read_fitting_lora
from uno_jax.weights.names import find_model


def split(params: dict[str, Params], patterns: tuple[str, ...]) -> tuple[dict[str, Params], Params]:
    """(frozen, trainable) by regular expressions over whole paths. Raises RecipeError for a pattern that
    matches none.
    """
    leaves = {
        tuple(part.key for part in path): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
    }
    for pattern in patterns:
        if not any(re.fullmatch(pattern, "/".join(path)) for path in leaves):
            raise RecipeError(f"trainable pattern {pattern!r} matches no parameter of {', '.join(params)}")
    chosen = {path for path in leaves if any(re.fullmatch(pattern, "/".join(path)) for pattern in patterns)}
    frozen = nest({path: leaf for path, leaf in leaves.items() if path not in chosen})
    return frozen, nest({path: leaves[path] for path in leaves if path in chosen})


def join(frozen: Params, trainable: Params) -> Params:
    """The inverse of `split`."""
    shared = {
        key: join(frozen[key], trainable[key]) if key in frozen else trainable[key] for key in trainable
    }
    return frozen | shared


def model_config(config: TrainConfig) -> ModelConfig:
    """Numbers of every network: those stored in `weights` or with cached encodings, the preset's for the
    rest.
    """
    preset = PRESETS[config.preset]
    cached = encoders_of(config)
    if not config.weights:
        return dataclasses.replace(preset, **cached)
    root = find_model(config.weights)
    kinds = [kind for kind in NETWORKS if (root / kind).is_dir()]
    stored: dict[str, Any] = {kind: read_config(root / kind, kind) for kind in kinds}
    return ModelConfig(**({kind: getattr(preset, kind) for kind in NETWORKS} | stored | cached))


def make_run_mesh(config: TrainConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """The recipe's mesh over `devices` (default all). Raises RecipeError where it, or the batch over it, does
    not divide.
    """
    sizes = config.mesh
    try:
        mesh = make_mesh(sizes.data, sizes.fsdp, sizes.tensor, sizes.sequence, devices)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    if config.batch_size // config.accumulate % (share := mesh.shape["data"] * mesh.shape["fsdp"]):
        parts = f" in {config.accumulate} parts" if config.accumulate > 1 else ""
        raise RecipeError(
            f"batch_size {config.batch_size}{parts} does not divide over {share} devices; "
            "change it, or give more of them to --mesh.tensor or --mesh.sequence"
        )
    return mesh


def load_params(config: TrainConfig, model: ModelConfig, mesh: Mesh) -> dict[str, Params]:
    """Every tree the objective needs, sharded from the start: restored, or random where trained from scratch.
    Not those of encoders whose encodings are cached, where no samples need them.

    Raises RecipeError for a network that is frozen and has no weights.
    """
    params: dict[str, Params] = {}
    # XLA's own generator: with threefry, compiling the random numbers takes several times as long.
    keys = jax.random.split(jax.random.key(config.seed, impl="rbg"), len(NETWORKS))
    kinds = ("vae",) if config.objective == "autoencoder" else NETWORKS
    cached = () if config.samples.every else encoders_of(config)
    for kind, key in zip(kinds, keys, strict=False):
        stored = config.weights_dir / kind
        if kind in cached:
            continue
        if config.weights and stored.is_dir():
            params[kind] = restore_network(stored, kind, mesh)[1]
        elif config.trains(kind):
            part = getattr(model, kind)
            shapes, axes = abstract_params(part)
            shardings = tree_shardings(mesh, axes, shapes)
            params[kind] = jax.jit(partial(init_params, part), out_shardings=shardings)(key)
        else:
            place = stored if config.weights else "the directory given as weights"
            raise RecipeError(f"{kind} is frozen and has no weights: expected {place} to hold it")
    if config.trains("lora"):
        params["lora"] = load_lora(config, model, mesh)
    return params


def load_lora(config: TrainConfig, model: ModelConfig, mesh: Mesh) -> Params:
    """A fresh LoRA, or the one to start from; RecipeError if that has other blocks, rank or positions."""
    block_indices(model.mmdit, config.lora)
    shapes, axes = abstract_lora(model.mmdit, config.lora)
    shardings = tree_shardings(mesh, axes, shapes)
    if not config.init_lora:
        # Threefry gives the same numbers on every mesh, and a LoRA has few arrays to compile it for.
        key = jax.random.fold_in(jax.random.key(config.seed), len(NETWORKS))
        return jax.jit(init_lora, static_argnums=(1, 2), out_shardings=shardings)(
            key, model.mmdit, config.lora
        )
    start = read_fitting_lora(config.init_lora, model.mmdit)
    if (start.config, start.unope) != (config.lora, config.unope):
        raise RecipeError(
            f"init_lora {config.init_lora} has {start.config} and {start.unope}, "
            f"this run {config.lora} and {config.unope}"
        )
    return jax.device_put(start.params, shardings)


def make_state(
    config: TrainConfig, params: dict[str, Params], mesh: Mesh
) -> tuple[optax.GradientTransformation, TrainState, dict[str, Params]]:
    """The optimizer, the state (float32), and the frozen rest in the recipe's dtype or 8 bits.

    Empties `params`, so that what is replaced is freed.
    """
    frozen, trainable = split(params, config.trainable)
    params.clear()
    frozen = jax.tree.map(lambda leaf: leaf.astype(config.dtype), frozen)
    if config.base:
        from uno_jax.training.quantize import quantize_base

        quantize_base(frozen, config.base)
    trainable = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), trainable)
    optimizer = make_optimizer(config.optim, config.steps)

    def start(trainable: Params) -> TrainState:
        zero = jnp.zeros((), jnp.int32)
        ema = jax.tree.map(jnp.copy, trainable) if config.optim.ema_decay else {}
        return TrainState(zero, trainable, optimizer.init(trainable), ema, zero)

    # Placed as the step will return it, or the step would be compiled twice.
    shardings = state_shardings(optimizer, jax.eval_shape(start, trainable), trainable, mesh)
    return optimizer, jax.jit(start, out_shardings=shardings)(trainable), frozen


def state_shardings(
    optimizer: optax.GradientTransformation, state: TrainState, trainable: Params, mesh: Mesh
) -> Any:
    """A TrainState of shardings: moments and average lie where their parameters do, counts everywhere."""
    everywhere = NamedSharding(mesh, PartitionSpec())
    places = jax.tree.map(lambda leaf: leaf.sharding, trainable)
    opt_state = optax.tree.map_params(
        optimizer,
        lambda _, place: place,
        state.opt_state,
        places,
        transform_non_params=lambda _: everywhere,
    )
    parts = {"step": everywhere, "trainable": places, "opt_state": opt_state, "skipped": everywhere}
    return TrainState(**parts, ema=places if state.ema else {})
