"""`uno-train --config FILE --plan v5p:2x2x1`: what a recipe's step needs, before any weight is loaded, and
the nearest setting that fits when it does not.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from uno_jax.costs.devices import assumptions, chip_of, find_devices
from uno_jax.costs.flops import count_flops
from uno_jax.costs.program import (
    Program,
    abstract,
    compile_program,
    fits,
    memory_line,
    placed,
    print_weighed,
    work_line,
)
from uno_jax.families.family import BatchSizes
from uno_jax.families.registry import family_of
from uno_jax.sharding.rules import BATCH, tree_shardings
from uno_jax.support.trees import Params, count
from uno_jax.support.words import counted
from uno_jax.training.cached import encoders_of
from uno_jax.training.config import MeshConfig, TrainConfig
from uno_jax.training.config_check import check_recipe
from uno_jax.training.optimizer import make_optimizer
from uno_jax.training.state import (
    TrainState,
    abstract_trees,
    arrange_frozen,
    make_run_mesh,
    model_config,
    split_params,
    state_shardings,
)
from uno_jax.training.step import make_step

REMAT: tuple[Literal["none", "selective", "full"], ...] = ("none", "selective", "full")


class Planned(NamedTuple):
    """What is planned for: a model on devices, with `refs` references in each sample."""

    model: Any
    devices: list[jax.Device]
    refs: int
    detail: bool = False


def plan_training(config: TrainConfig, where: str, refs: int, detail: bool = False) -> None:
    """Prints the plan of a recipe on the hardware `where`, with `detail` that of its kernels too, then of
    smaller settings until one fits.

    Raises PlanError or RecipeError before anything is compiled.
    """
    devices = find_devices(where)
    check_recipe(config)  # does not read the list of records
    if config.weights and not config.weights_dir.is_dir():
        print(f"no weights at {config.weights}: planned with the sizes of preset {config.preset}")
        config = dataclasses.replace(config, weights="")
    chip, planned = chip_of(devices[0]), Planned(model_config(config), devices, refs, detail)
    make_run_mesh(config, devices)
    limits = [f"{chip.memory:.2f} GiB" if chip.memory else "", f"{chip.peak} TFLOP/s" if chip.peak else ""]
    print(f"{where}: {len(devices)} {chip.name} ({', '.join(filter(None, limits))})")
    if assumed := assumptions(devices[0]):
        print(f"  {assumed}")
    program = print_plan(config, planned)
    if fits(program, chip):
        return
    for smaller in smaller_settings(config, len(devices)):
        if fits(print_plan(smaller, planned), chip):
            print("this is the nearest setting that fits")
            return
    print("no setting of this recipe fits; take more chips, a smaller resolution or a smaller rank")


def print_plan(config: TrainConfig, planned: Planned) -> Program:
    """Compiles one setting and prints what it needs."""
    devices = planned.devices
    mesh = make_run_mesh(config, devices)
    state, frozen, optimizer = abstract_state(config, planned.model, mesh)
    step = make_step(config, planned.model, optimizer, state)
    batch = abstract_batch(config, planned.model, mesh, planned.refs)
    program = compile_step(step, mesh, state, frozen, batch)
    shape = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    side, chip = config.data.resolution, chip_of(devices[0])
    refs = f"{counted(planned.refs, 'reference')} of {config.data.ref_resolution}"
    print(f"\nbatch {config.batch_size}, accumulate {config.accumulate}, remat {config.remat}, mesh {shape}")
    print(f"  pictures of {side}x{side}, {refs}")
    print(f"  {count(state.trainable):,} trained and {count(frozen):,} frozen parameters")
    print(f"  {memory_line(program, chip)}")
    print(f"  {work_line(program.flops, chip, len(devices))} (a step)")
    print_weighed(program, chip, len(devices), planned.detail)
    print(f"  compiled in {program.seconds:.0f} s", flush=True)
    return program


def abstract_state(
    config: TrainConfig, model: Any, mesh: Mesh, platform: str = ""
) -> tuple[TrainState, dict[str, Params], optax.GradientTransformation]:
    """The state and the frozen weights of a run as `state.make_state` places them, without arrays; the blocks
    arranged as for another `platform` than the mesh's if one is given.
    """
    trees = abstract_trees(config, model)
    params = {
        kind: placed(shapes, tree_shardings(mesh, axes, shapes)) for kind, (shapes, axes) in trees.items()
    }
    frozen, trainable = split_params(params, config.trainable)
    frozen = jax.tree.map(lambda leaf: leaf.update(dtype=jnp.dtype(config.dtype)), frozen)
    if config.base:
        from uno_jax.networks.quantize import quantize_base  # needs qwix, an extra

        quantize_base(frozen, config.base)
    platform = platform or mesh.devices.flat[0].platform
    frozen = arrange_frozen(config, frozen, trainable, platform, mesh.size)
    optimizer = make_optimizer(config.optim, config.steps)
    zero: Any = jax.ShapeDtypeStruct((), jnp.int32)
    ema = trainable if config.optim.ema_decay else {}
    state: Any = TrainState(zero, trainable, jax.eval_shape(optimizer.init, trainable), ema, zero)
    return placed(state, state_shardings(optimizer, state, trainable, mesh)), frozen, optimizer


def abstract_batch(config: TrainConfig, model: Any, mesh: Mesh, refs: int) -> Any:
    """The shapes of a batch of the recipe's lists, or of their cached encodings."""
    sizes = BatchSizes(config.batch_size, config.data.resolution, refs, config.data.ref_resolution)
    batch = family_of(model).need_trainer().abstract_batch(model, sizes, encoders_of(config), config.dtype)
    return jax.tree.map(lambda leaf: abstract(leaf.shape, leaf.dtype, mesh, *BATCH), batch)


def step_operations(config: TrainConfig, refs: int) -> int:
    """Operations of one step of a recipe with `refs` references in each sample, counted from shapes.

    Raises RecipeError for a recipe that cannot work.
    """
    check_recipe(config)
    if config.weights and not config.weights_dir.is_dir():
        config = dataclasses.replace(config, weights="")
    model, mesh = model_config(config), make_run_mesh(config, jax.local_devices()[:1])
    state, frozen, optimizer = abstract_state(config, model, mesh)
    step = make_step(config, model, optimizer, state)
    seed = jax.eval_shape(lambda: jax.random.key(0))
    return count_flops(step, state, frozen, abstract_batch(config, model, mesh, refs), seed)


def compile_step(step: Any, mesh: Mesh, state: TrainState, frozen: dict[str, Params], batch: Any) -> Program:
    """Compiles the trainer's own step from shapes."""
    seed = jax.eval_shape(lambda: jax.random.key(0))
    key = abstract(seed.shape, seed.dtype, mesh)
    kinds: dict[str, Any] = {"frozen": frozen, "trained": state.trainable}
    kinds |= {"optimizer": (state.opt_state, state.ema), "batch": batch}
    return compile_program(step, (state, frozen, batch, key), kinds, mesh)


def smaller_settings(config: TrainConfig, chips: int) -> Iterator[TrainConfig]:
    """Settings that need less memory, nearest first: more remat, all chips on fsdp, then the batch
    halved as long as it divides.
    """
    for remat in REMAT[REMAT.index(config.remat) + 1 :]:
        config = dataclasses.replace(config, remat=remat)
        yield config
    for tensor in sorted({1, config.mesh.tensor}):
        mesh = MeshConfig(data=1, fsdp=chips // tensor, tensor=tensor)
        divides = config.batch_size // config.accumulate % mesh.fsdp == 0
        if divides and (config.mesh.data, config.mesh.tensor) != (1, tensor):
            config = dataclasses.replace(config, mesh=mesh)
            yield config
            break
    share = chips // config.mesh.tensor * config.accumulate
    while config.batch_size % 2 == 0 and config.batch_size // 2 % share == 0:
        config = dataclasses.replace(config, batch_size=config.batch_size // 2)
        yield config
