"""The training step of stage I on one GPU: LoRA of rank 512, 512² with one reference. This part measures one
sample without remat, and `lora_batches` others.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.flops import gradient_floor
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.cases import ONE, Case, case
from benchmarks.gpu.weights import random_lora, stacked_networks
from uno_jax.families.family import BatchSizes
from uno_jax.families.registry import family_of
from uno_jax.families.uno.config import LoraConfig
from uno_jax.sharding.rules import make_mesh
from uno_jax.support.trees import Params
from uno_jax.training.config import DataConfig, TrainConfig
from uno_jax.training.recipes import load_recipe
from uno_jax.training.state import make_run_mesh, make_state
from uno_jax.training.step import make_step

GOAL_MS = 200.0  # a sample
ENCODERS = ("vae", "t5", "clip")


class Setting(NamedTuple):
    """A batch, its remat, and whether pictures and prompts come encoded, so that no encoder is loaded."""

    batch: int
    remat: str
    encoded: bool = True

    def __str__(self) -> str:
        return f"batch {self.batch}, remat {self.remat}, from {'encodings' if self.encoded else 'pictures'}"


FIRST = Setting(1, "none")


def run(bench: Bench) -> None:
    measure(bench, FIRST)


def measure(bench: Bench, setting: Setting) -> None:
    """Compiles and times the trainer's own step."""
    step, of = prepare(bench, setting, str(setting)), case(bench, ONE)
    ms = bench.ms(step, rounds=10)
    loss = float(step())
    rank = recipe(bench, setting).lora
    tflop = setting.batch * gradient_floor(bench.model.mmdit, rank, of.text, of.tokens) / 1e12
    bench.record(str(setting), ms_a_sample=ms / setting.batch, images_s=1e3 * setting.batch / ms)
    bench.speed(str(setting), ms, tflop, GOAL_MS * setting.batch)
    bench.record(str(setting), loss=loss)


def prepare(bench: Bench, setting: Setting, what: str) -> Callable[[], jax.Array]:
    """A function that takes one more step and returns its loss; recorded as `what` is its compilation."""
    config = recipe(bench, setting)
    with jax.set_mesh(make_run_mesh(config)):
        step, state, frozen = ready(bench, config, setting.encoded)
        batch, key = random_batch(bench, config, setting.encoded), jax.random.key(0)
        program = bench.compiled(what, step, state, frozen, batch, key)

    def one() -> jax.Array:
        nonlocal state
        state, metrics = program(state, frozen, batch, key)
        loss: jax.Array = metrics["loss"]
        return loss

    return one


def recipe(bench: Bench, setting: Setting) -> TrainConfig:
    """Stage I at the bench's sizes."""
    of: Case = case(bench, ONE)
    config = load_recipe("configs/uno_stage1.py")
    changes: dict[str, Any] = {"batch_size": setting.batch, "remat": setting.remat}
    if not bench.full:
        changes["lora"] = LoraConfig(rank=4)
    data = DataConfig(resolution=of.side, ref_resolution=of.refs[0])
    return dataclasses.replace(config, weights="", preset=bench.preset, data=data, **changes)


def ready(bench: Bench, config: TrainConfig, encoded: bool) -> tuple[Any, Any, dict[str, Params]]:
    """The jitted step, the state and the frozen weights, which `make_state` arranges."""
    mesh = make_mesh()
    kinds = [kind for kind in family_of(bench.model).networks if not (encoded and kind in ENCODERS)]
    params = stacked_networks(bench.model, kinds, mesh)
    params["lora"] = random_lora(bench.model, config.lora, mesh)
    optimizer, state, frozen = make_state(config, params, mesh)
    return make_step(config, bench.model, optimizer, state), state, frozen


def batch_shapes(model: Any, config: TrainConfig, encoded: bool) -> Any:
    """The shapes of a batch with one reference."""
    sizes = BatchSizes(config.batch_size, config.data.resolution, 1, config.data.ref_resolution)
    cached = ENCODERS if encoded else ()
    return family_of(model).need_trainer().abstract_batch(model, sizes, cached, config.dtype)


def random_batch(bench: Bench, config: TrainConfig, encoded: bool) -> Any:
    """A batch of noise with one reference, on the device."""
    shapes, rng = batch_shapes(bench.model, config, encoded), np.random.default_rng(0)

    def leaf(shape: jax.ShapeDtypeStruct) -> jax.Array:
        if jnp.issubdtype(shape.dtype, jnp.integer):
            return jnp.asarray(rng.integers(2, 1000, shape.shape, np.int32))
        return jnp.asarray(rng.uniform(-1, 1, shape.shape), shape.dtype)

    return jax.tree.map(leaf, shapes)
