"""A run's parameters and state: networks restored or initialised sharded, then split into frozen and
trainable.
"""

import re
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from uno_jax.families.family import Family
from uno_jax.families.registry import FAMILIES, PRESETS, family_of
from uno_jax.networks.registry import abstract_params, arrange, cut, init_params
from uno_jax.sharding.rules import make_mesh, tree_shardings
from uno_jax.support.errors import RecipeError
from uno_jax.support.trees import Params
from uno_jax.training.cached import encoders_of
from uno_jax.training.config import TrainConfig
from uno_jax.training.optimizer import make_optimizer
from uno_jax.weights.base import check_base
from uno_jax.weights.checkpoint import read_config, read_defaults, restore_network
from uno_jax.weights.loras import Lora, abstract_lora_of, read_fitting_lora
from uno_jax.weights.names import local_model, lora_dir


class TrainState(NamedTuple):
    """Everything that a step changes. `trainable` holds the LoRA, or all parameters that are trained; `ema`
    is its running average, empty when none is kept; `skipped` counts the steps that were not finite.
    """

    step: Int[Array, ""]
    trainable: Params
    opt_state: Any
    ema: Params
    skipped: Int[Array, ""]


def split_params(params: dict[str, Params], patterns: tuple[str, ...]) -> tuple[dict[str, Params], Params]:
    """(frozen, trainable) by regular expressions over whole paths; `trees.join` is the inverse.

    Raises RecipeError for a pattern that matches no parameter.
    """
    leaves = flatten_dict(params)
    for pattern in patterns:
        if not any(re.fullmatch(pattern, "/".join(path)) for path in leaves):
            raise RecipeError(f"trainable pattern {pattern!r} matches no parameter of {', '.join(params)}")
    chosen = {path for path in leaves if any(re.fullmatch(pattern, "/".join(path)) for pattern in patterns)}
    frozen = unflatten_dict({path: leaf for path, leaf in leaves.items() if path not in chosen})
    return frozen, unflatten_dict({path: leaves[path] for path in leaves if path in chosen})


def run_family(config: TrainConfig) -> Family:
    """The family whose drawing network is in `weights`, else the preset's."""
    stored = [family for family in FAMILIES if config.weights and (config.weights_dir / family.core).is_dir()]
    return stored[0] if stored else family_of(PRESETS[config.preset])


def model_config(config: TrainConfig) -> Any:
    """The config of every network: those stored in `weights` or with cached encodings, the preset's for the
    rest.

    Raises RecipeError where `weights` and the preset are of different families.
    """
    family, cached = run_family(config), encoders_of(config)
    preset: Any = PRESETS[config.preset]
    if not isinstance(preset, family.config):  # the family of other weights
        raise RecipeError(f"preset {config.preset} is not of the family of {config.weights} ({family.name})")
    parts = {kind: getattr(preset, kind) for kind in family.networks}
    defaults: Any = preset.defaults  # type: ignore[attr-defined]
    if config.weights:
        root = local_model(config.weights)
        stored = [kind for kind in family.networks if (root / kind).is_dir()]
        parts |= {kind: read_config(root / kind, kind) for kind in stored}
        defaults = read_defaults(root / family.core) if family.core in stored else defaults
    return family.config(**parts | cached, defaults=defaults)


def networks_of(config: TrainConfig) -> tuple[str, ...]:
    """The networks that a run loads: those of its objective, without encoders whose encodings are cached
    unless its samples need them.
    """
    objective = run_family(config).need_trainer().objectives[config.objective]
    cached = () if config.samples.every else encoders_of(config)
    return tuple(kind for kind in objective.networks if kind not in cached)


def make_run_mesh(config: TrainConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """The recipe's mesh over `devices` (default all).

    Raises RecipeError where the devices do not divide into it, or the batch does not divide over it, and
    ValueError for a base that they cannot use.
    """
    sizes = config.mesh
    try:
        mesh = make_mesh(sizes.data, sizes.fsdp, sizes.tensor, sizes.sequence, devices)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    check_base(config.base, mesh.devices.flat[0])
    if config.batch_size // config.accumulate % (share := mesh.shape["data"] * mesh.shape["fsdp"]):
        parts = f" in {config.accumulate} parts" if config.accumulate > 1 else ""
        raise RecipeError(
            f"batch_size {config.batch_size}{parts} does not divide over {share} devices; "
            "change it, or give more of them to --mesh.tensor or --mesh.sequence"
        )
    return mesh


def load_params(config: TrainConfig, model: Any, mesh: Mesh) -> dict[str, Params]:
    """The parameters of `networks_of` and the LoRA, sharded from the start: restored, or random where they
    are trained from scratch.

    Raises RecipeError for a network that is frozen and has no weights.
    """
    params: dict[str, Params] = {}
    family, wanted = family_of(model), networks_of(config)
    # XLA's own generator: with threefry, compiling the random numbers takes several times as long.
    keys = jax.random.split(jax.random.key(config.seed, impl="rbg"), len(family.networks))
    for kind, key in zip(family.need_trainer().objectives[config.objective].networks, keys, strict=False):
        stored = config.weights_dir / kind
        if kind not in wanted:
            continue
        check_weights(config, kind)
        if config.weights and stored.is_dir():
            params[kind] = restore_network(stored, kind, mesh)[1]
        else:
            part = getattr(model, kind)
            shapes, axes = abstract_params(part)
            shardings = tree_shardings(mesh, axes, shapes)
            params[kind] = jax.jit(partial(init_params, part), out_shardings=shardings)(key)
    if config.trains("lora"):
        params["lora"] = load_lora(config, model, mesh)
    return params


def check_weights(config: TrainConfig, kind: str) -> None:
    """Raises RecipeError for a network that is frozen and has no weights."""
    stored = config.weights_dir / kind
    if not (config.weights and stored.is_dir()) and not config.trains(kind):
        place = stored if config.weights else "the directory given as weights"
        raise RecipeError(f"{kind} is frozen and has no weights: expected {place} to hold it")


def abstract_trees(config: TrainConfig, model: Any) -> dict[str, tuple[Params, Params]]:
    """Shapes and logical axes of what `load_params` loads."""
    trees = {kind: abstract_params(getattr(model, kind)) for kind in networks_of(config)}
    if config.trains("lora"):
        trees["lora"] = abstract_lora_of(model, config.lora)
    return trees


def load_lora(config: TrainConfig, model: Any, mesh: Mesh) -> Params:
    """A fresh LoRA, or the one to start from.

    Raises RecipeError if that one has other blocks, rank or positions.
    """
    family = family_of(model)
    shapes, axes = abstract_lora_of(model, config.lora)
    shardings = tree_shardings(mesh, axes, shapes)
    if not config.init_lora:
        # Threefry gives the same numbers on every mesh, and a LoRA has few arrays to compile it for.
        key = jax.random.fold_in(jax.random.key(config.seed), len(family.networks))
        init = jax.jit(family.need_lora().init, static_argnums=(1, 2), out_shardings=shardings)
        return cast(Params, init(key, getattr(model, family.core), config.lora))
    return cast(Params, jax.device_put(read_start_lora(config, model).params, shardings))


def read_start_lora(config: TrainConfig, model: Any) -> Lora:
    """The LoRA that a run starts from. A run with a reference cache may teach it to one without.

    Raises as `load_lora`, and FileNotFoundError where there is none.
    """
    path = lora_dir(config.init_lora)
    if not path.exists():
        raise FileNotFoundError(
            f"init_lora: no LoRA at {path}; train it first, or name another (--init-lora PATH)"
        )
    start = read_fitting_lora(path, model)
    started = start.unope, replace(start.unope, reference_cache=True)
    if start.config != config.lora or config.unope not in started:
        lacks_cache = start.unope.reference_cache and not config.unope.reference_cache
        cached = "; add --unope.reference-cache" * lacks_cache
        raise RecipeError(
            f"init_lora {config.init_lora} has {start.config} and {start.unope}, "
            f"this run {config.lora} and {config.unope}{cached}"
        )
    return start


def make_state(
    config: TrainConfig, params: dict[str, Params], mesh: Mesh
) -> tuple[optax.GradientTransformation, TrainState, dict[str, Params]]:
    """The optimizer, the state (float32), and the frozen parameters in the recipe's dtype or 8 bits.

    Empties `params`, so that arrays are freed as they are replaced.
    """
    frozen, trainable = split_params(params, config.trainable)
    params.clear()
    frozen = jax.tree.map(lambda leaf: leaf.astype(config.dtype), frozen)
    if config.base:
        from uno_jax.networks.quantize import quantize_base

        quantize_base(frozen, config.base)
    frozen = arrange_frozen(config, frozen, trainable, mesh.devices.flat[0].platform, mesh.size)
    trainable = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), trainable)
    optimizer = make_optimizer(config.optim, config.steps)

    def start(trainable: Params) -> TrainState:
        zero = jnp.zeros((), jnp.int32)
        ema = jax.tree.map(jnp.copy, trainable) if config.optim.ema_decay else {}
        return TrainState(zero, trainable, optimizer.init(trainable), ema, zero)

    # Placed as the step will return it, since the step would otherwise be compiled twice.
    shardings = state_shardings(optimizer, jax.eval_shape(start, trainable), trainable, mesh)
    return optimizer, jax.jit(start, out_shardings=shardings)(trainable), frozen


def arrange_frozen(
    config: TrainConfig, frozen: dict[str, Params], trainable: Params, platform: str, chips: int
) -> dict[str, Params]:
    """The frozen parameters, or their shapes, as networks run fastest on a platform.

    Blocks are stacked where some of them are trained, and with remat on several chips, whose gathered weights
    were not weighed for separate ones (docs/benchmarks.md).
    """

    def arranged(kind: str, tree: Params) -> Params:
        stacked = kind in trainable or (config.remat != "none" and chips > 1)
        return cut(kind, tree) if stacked else arrange(kind, tree, platform)

    return {kind: arranged(kind, tree) for kind, tree in frozen.items()}


def state_shardings(
    optimizer: optax.GradientTransformation, state: TrainState, trainable: Params, mesh: Mesh
) -> Any:
    """A TrainState of shardings: moments and average as their parameters, counts replicated."""
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
