"""`python -m uno_jax.train --config FILE --plan v5p:2x2x1`: what a recipe's step needs, before any weight is
loaded, and the nearest setting that fits when it does not.
"""

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from uno_jax.costs.chips import PlanError, chip_of, find_devices
from uno_jax.costs.program import Program, abstract, compile_program, fits, memory_line, placed, work_line
from uno_jax.data.cached_encodings import encoders_of
from uno_jax.families.uno.lora import abstract_lora, count
from uno_jax.families.uno.types import Batch, TrainState
from uno_jax.networks.config import ModelConfig
from uno_jax.networks.registry import Params, abstract_params
from uno_jax.sharding.rules import BATCH, tree_shardings
from uno_jax.training.config import MeshConfig, TrainConfig, parse
from uno_jax.training.config_check import check
from uno_jax.training.optimizer import make_optimizer
from uno_jax.training.state import make_run_mesh, model_config, split, state_shardings
from uno_jax.training.step import make_step
from uno_jax.weights.checkpoint import NETWORKS

REMAT: tuple[Literal["none", "selective", "full"], ...] = ("none", "selective", "full")


def plan_training(where: str, argv: Sequence[str]) -> None:
    """Prints the plan of the recipe in `argv` on `where`, then of others until one fits.

    Raises PlanError or RecipeError before anything is compiled.
    """
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--plan-refs", type=int, default=1, help="references a sample")
    own, rest = options.parse_known_args(argv)
    devices = find_devices(where)
    config = parse(rest)
    check(config)  # which does not read the list of records
    if own.plan_refs < 0:
        raise PlanError(f"--plan-refs must be 0 or more, got {own.plan_refs}")
    if config.weights and not config.weights_dir.is_dir():
        print(f"no weights at {config.weights}: planned with the numbers of preset {config.preset}")
        config = dataclasses.replace(config, weights="")
    chip, model = chip_of(devices[0]), model_config(config)
    make_run_mesh(config, devices)
    limits = [f"{chip.memory:.2f} GiB" if chip.memory else "", f"{chip.peak} TFLOP/s" if chip.peak else ""]
    print(f"{where}: {len(devices)} {chip.name} ({', '.join(filter(None, limits))})")
    program = show(config, model, devices, own.plan_refs)
    if fits(program, chip):
        return
    for smaller in smaller_settings(config, len(devices)):
        if fits(show(smaller, model, devices, own.plan_refs), chip):
            print("this is the nearest setting that fits")
            return
    print("no setting of this recipe fits; take more chips, a smaller resolution or a smaller rank")


def show(config: TrainConfig, model: ModelConfig, devices: list[jax.Device], refs: int) -> Program:
    """Compiles one setting and prints what it needs."""
    mesh = make_run_mesh(config, devices)
    state, frozen, optimizer = abstract_state(config, model, mesh)
    program = compile_step(config, model, mesh, state, frozen, optimizer, refs)
    shape = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    side, chip = config.data.resolution, chip_of(devices[0])
    print(f"\nbatch {config.batch_size}, accumulate {config.accumulate}, remat {config.remat}, mesh {shape}")
    print(f"  pictures of {side}x{side}, {refs} references of {config.data.ref_resolution}")
    print(f"  {count(state.trainable):,} trained and {count(frozen):,} frozen parameters")
    print(f"  {memory_line(program, chip)}")
    print(f"  {work_line(program.flops, chip, len(devices))} (a step)")
    print(f"  compiled in {program.seconds:.0f} s", flush=True)
    return program


def abstract_state(
    config: TrainConfig, model: ModelConfig, mesh: Mesh
) -> tuple[TrainState, dict[str, Params], optax.GradientTransformation]:
    """The state and the frozen weights of a run as `state.make_state` places them, without arrays."""
    kinds = {"vae"} if config.objective == "autoencoder" else NETWORKS.keys() - encoders_of(config).keys()
    trees = {kind: abstract_params(getattr(model, kind)) for kind in kinds}
    if config.trains("lora"):
        trees["lora"] = abstract_lora(model.mmdit, config.lora)
    params = {
        kind: placed(shapes, tree_shardings(mesh, axes, shapes)) for kind, (shapes, axes) in trees.items()
    }
    frozen, trainable = split(params, config.trainable)
    frozen = jax.tree.map(lambda leaf: leaf.update(dtype=jnp.dtype(config.dtype)), frozen)
    if config.base:
        from uno_jax.training.quantize import quantize_base

        quantize_base(frozen, config.base)
    optimizer = make_optimizer(config.optim, config.steps)
    zero: Any = jax.ShapeDtypeStruct((), jnp.int32)
    ema = trainable if config.optim.ema_decay else {}
    state: Any = TrainState(zero, trainable, jax.eval_shape(optimizer.init, trainable), ema, zero)
    return placed(state, state_shardings(optimizer, state, trainable, mesh)), frozen, optimizer


def abstract_batch(config: TrainConfig, model: ModelConfig, mesh: Mesh, refs: int) -> Batch:
    """Square pictures: every bucket has about as many tokens. Or their cached encodings, as a recipe of this
    dtype makes them.
    """
    cached = encoders_of(config)

    def part(kind: str, given: tuple[int, ...], dtype: str, encoding: tuple[int, ...]) -> Any:
        shape, dtype = (encoding, config.dtype) if kind in cached else (given, dtype)
        return abstract((config.batch_size, *shape), jnp.dtype(dtype), mesh, *BATCH)

    def picture(side: int) -> Any:
        cells = side // model.vae.downsampling
        return part("vae", (side, side, 3), "float32", (cells, cells, 2 * model.vae.latent_channels))

    return Batch(
        picture(config.data.resolution),
        (picture(config.data.ref_resolution),) * refs,
        part("t5", (model.t5.length,), "int32", (model.t5.length, model.t5.d_model)),
        part("clip", (model.clip.max_positions,), "int32", (model.clip.hidden_size,)),
    )


def compile_step(
    config: TrainConfig,
    model: ModelConfig,
    mesh: Mesh,
    state: TrainState,
    frozen: dict[str, Params],
    optimizer: optax.GradientTransformation,
    refs: int,
) -> Program:
    """The trainer's own step."""
    step = make_step(config, model, optimizer, state)
    batch = abstract_batch(config, model, mesh, refs)
    seed = jax.eval_shape(lambda: jax.random.key(0))
    key = abstract(seed.shape, seed.dtype, mesh)
    kinds: dict[str, Any] = {"frozen": frozen, "trained": state.trainable}
    kinds |= {"optimizer": (state.opt_state, state.ema), "batch": batch}
    return compile_program(step, (state, frozen, batch, key), kinds, mesh)


def smaller_settings(config: TrainConfig, chips: int) -> Iterator[TrainConfig]:
    """Settings that need less memory, nearest first: more remat, all chips on fsdp, then half the batch again
    and again while it divides.
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
