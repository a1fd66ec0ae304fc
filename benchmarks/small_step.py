"""What the CPU settings of the small recipes gain: images a second in configs/small_base.py's step.

    python -m benchmarks.small_step

The step on all cores, from cached encodings of random pictures: each setting by itself, and both together.
docs/benchmarks.md names the settings of the C library's allocator: by default it returns a step's memory to
Linux, which clears it again for the next.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from benchmarks.encodings import stepper
from benchmarks.measure import table
from uno_jax.families.uno.config import PRESETS, ModelConfig
from uno_jax.families.uno.types import Batch
from uno_jax.networks.registry import init_params
from uno_jax.support.command_line import parse_args
from uno_jax.training.config import TrainConfig
from uno_jax.training.recipes import load_recipe

SETTINGS = {
    "float32": {"precision": "", "unroll": 1},
    "unroll 8": {"precision": "", "unroll": 8},
    "precision bfloat16": {"precision": "bfloat16", "unroll": 1},
    "both": {"precision": "bfloat16", "unroll": 8},
}


@dataclass(frozen=True)
class Args:
    """Time the small base model's training step."""

    rounds: int = 5
    """Number of timed steps of each setting."""


def random_batch(config: TrainConfig, model: ModelConfig) -> Batch:
    """Moments of pictures without references, and tokens."""
    rng = np.random.default_rng(0)
    side, size = config.data.resolution // model.vae.downsampling, config.batch_size
    moments = rng.normal(size=(size, side, side, 2 * model.vae.latent_channels)).astype(np.float32)
    texts = rng.integers(2, 1000, (size, model.t5.length)), rng.integers(2, 1000, (size, 77))
    return Batch(moments, (), *(text.astype(np.int32) for text in texts))


def least_seconds(call: Callable[[], float], rounds: int) -> float:
    """Wall time, since what counts here is how well all cores are used."""
    taken = []
    for _ in range(1 + rounds):  # the first compiles
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(Args, "python -m benchmarks.small_step", argv)
    config = dataclasses.replace(load_recipe("configs/small_base.py"), weights="")
    model = PRESETS[config.preset]
    keys = jax.random.split(jax.random.key(0), 3)
    params = {
        kind: init_params(getattr(model, kind), key)
        for kind, key in zip(("mmdit", "t5", "clip"), keys, strict=True)
    }
    batch = random_batch(config, model)
    rows = []
    for name, setting in SETTINGS.items():
        step = stepper(dataclasses.replace(config, **setting), model, params, batch)
        rows.append((name, f"{config.batch_size / least_seconds(step, args.rounds):.1f}"))
    print(table(("setting", "images a second"), rows))


if __name__ == "__main__":
    main()
