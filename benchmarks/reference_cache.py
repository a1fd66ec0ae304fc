"""What computing references once a picture saves: CPU time of the shipped small model's denoising steps.

    python -m benchmarks.reference_cache --rounds 5

One picture of 128 pixels with 1, 2 and 4 references of 128 pixels, with the reference cache and without, on
one core in turns: the least CPU time of all steps, without guidance.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.measure import least_cpu_seconds, on_one_core, table
from uno_jax.families.flow import sampling_schedule
from uno_jax.families.model import Model
from uno_jax.families.uno.config import UnoPE
from uno_jax.families.uno.sampling import denoise_latent
from uno_jax.families.uno.types import Conditioning
from uno_jax.weights.load import load_model

CELLS = 32  # a side of 128 pixels in latent cells


class Args(NamedTuple):
    """How long to measure."""

    rounds: int = 5
    """Rounds of which the least time counts."""
    steps: int = 25
    """Euler steps of a picture."""


def main(args: Args) -> None:
    on_one_core()
    model = load_model("small", dtype="float32")
    rows = []
    for count in (1, 2, 4):
        cases = {
            name: partial(draw, model, args.steps, count, UnoPE(reference_cache=cached))
            for name, cached in (("joint", False), ("cached", True))
        }
        seconds = least_cpu_seconds(cases, args.rounds)
        ratio = seconds["joint"] / seconds["cached"]
        rows.append((count, f"{seconds['joint']:.2f}", f"{seconds['cached']:.2f}", f"{ratio:.2f}x"))
    print(table(("references", "seen by every token, s", "computed once, s", "ratio"), rows))


def draw(model: Model, steps: int, count: int, unope: UnoPE) -> None:
    """All steps of one picture; of random inputs, since time does not depend on their values."""
    channels, config = model.config.vae.latent_channels, model.config
    draw = partial(np.random.default_rng(0).standard_normal, dtype=np.float32)
    latent = jnp.asarray(draw((1, CELLS, CELLS, channels)))
    txt, vec = draw((1, config.t5.length, config.t5.d_model)), draw((1, config.clip.hidden_size))
    given = Conditioning(jnp.asarray(txt), jnp.asarray(vec), (latent,) * count, jnp.ones(1), unope)
    side = CELLS * config.vae.downsampling
    jax.block_until_ready(denoise_latent(model, latent, given, sampling_schedule(steps, side, side)))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
