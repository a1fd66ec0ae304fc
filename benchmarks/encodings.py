"""What cached encodings save: a training step from pictures and prompts, and from their encodings.

    python -m benchmarks.encodings

A step of the small MM-DiT by configs/small_stage1.py in batches of four on one core, the cases taking turns,
after a check that all have the same loss; then the operations of the full-size stage I step, from abstract
shapes.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import least_cpu_seconds, on_one_core, table
from uno_jax.costs.flops import count_flops
from uno_jax.families.latents import encode_vae
from uno_jax.families.model import Model
from uno_jax.families.registry import family_of
from uno_jax.families.uno.conditioning import encode_text
from uno_jax.families.uno.config import ModelConfig
from uno_jax.families.uno.types import Batch
from uno_jax.networks.registry import init_params
from uno_jax.sharding.rules import make_mesh
from uno_jax.support.command_line import parse_args
from uno_jax.support.trees import Params
from uno_jax.training.config import TrainConfig
from uno_jax.training.plan import abstract_batch, abstract_state
from uno_jax.training.recipes import load_recipe
from uno_jax.training.state import make_state, model_config
from uno_jax.training.step import make_step


@dataclass(frozen=True)
class Args:
    """Time a small step from pictures and from encodings."""

    rounds: int = 10
    """Number of timed steps of each case."""


def encoded_batches(model: Model, batch: Batch) -> dict[str, Batch]:
    """The batch unchanged, with moments for pictures, and with encoded texts too."""
    moments = batch._replace(
        target=encode_vae(model, batch.target), refs=tuple(encode_vae(model, ref) for ref in batch.refs)
    )
    txt, vec = encode_text(model, batch.txt, batch.vec)
    return {"nothing": batch, "vae": moments, "vae,t5,clip": moments._replace(txt=txt, vec=vec)}


def random_batch(config: TrainConfig, model: ModelConfig) -> Batch:
    """Noise pictures with one reference, of the recipe's sizes."""
    rng = np.random.default_rng(0)

    def leaf(shape: jax.ShapeDtypeStruct) -> np.ndarray:
        if jnp.issubdtype(shape.dtype, jnp.integer):
            return rng.integers(2, 1000, shape.shape, np.int32)
        return rng.uniform(-1, 1, shape.shape).astype(shape.dtype)

    return jax.tree.map(leaf, abstract_batch(config, model, make_mesh(), refs=1))


def stepper(
    config: TrainConfig, model: ModelConfig, params: dict[str, Params], batch: Batch
) -> Callable[[], float]:
    """A function that takes one more step and returns its loss."""
    copy = jax.tree.map(jnp.copy, params)
    optimizer, state, frozen = make_state(config, copy, make_mesh())
    step, key = make_step(config, model, optimizer, state), jax.random.key(0)

    def call() -> float:
        nonlocal state
        state, metrics = step(state, frozen, batch, key)
        return float(metrics["loss"])

    return call


def compare(config: TrainConfig, rounds: int) -> list[tuple[str, str, str]]:
    """Rows of the table: what is cached, milliseconds a step, how many times faster.

    Raises ValueError when the cases' losses differ.
    """
    model = model_config(config)
    keys = dict(
        zip(family_of(model).networks, jax.random.split(jax.random.key(0, impl="rbg"), 4), strict=True)
    )
    params = {
        kind: jax.jit(lambda key, k=kind: init_params(getattr(model, k), key))(keys[kind]) for kind in keys
    }
    batches = encoded_batches(Model(model, params, dtype=config.dtype), random_batch(config, model))
    cases = {name: stepper(config, model, params, batch) for name, batch in batches.items()}
    losses = [call() for call in cases.values()]
    if np.ptp(losses) > 1e-5 * losses[0]:
        raise ValueError(f"the losses differ: {losses}")
    best = least_cpu_seconds(cases, rounds)
    return [(name, f"{1e3 * best[name]:.0f}", f"{best['nothing'] / best[name]:.2f}x") for name in cases]


def full_size() -> list[tuple[str, str]]:
    """Rows: what is cached, TFLOP of a stage I step of one sample without remat."""
    recipe = load_recipe("configs/uno_stage1.py")
    config = dataclasses.replace(recipe, weights="", batch_size=1, remat="none")
    model, mesh = model_config(config), make_mesh(devices=jax.devices()[:1])
    state, frozen, optimizer = abstract_state(config, model, mesh)
    pictures = abstract_batch(config, model, mesh, refs=1)
    step, key = make_step(config, model, optimizer, state), jax.eval_shape(lambda: jax.random.key(0))
    here = Model(model, frozen, dtype=config.dtype)
    batches = jax.eval_shape(encoded_batches, here, pictures)
    counts = {name: count_flops(step, state, frozen, batch, key) for name, batch in batches.items()}
    return [(name, f"{flops / 1e12:.1f}") for name, flops in counts.items()]


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(Args, "python -m benchmarks.encodings", argv)
    on_one_core()
    own = {"weights": "", "preset": "small", "trainable": ("mmdit/.*",), "batch_size": 4, "unroll": 1}
    small = dataclasses.replace(load_recipe("configs/small_stage1.py"), **own)
    print(table(("cached", "CPU ms a step", "faster"), compare(small, args.rounds)))
    print(table(("cached", "TFLOP, full size, one sample"), full_size()))


if __name__ == "__main__":
    main()
