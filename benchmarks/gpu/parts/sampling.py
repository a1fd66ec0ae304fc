"""Whole pictures by `generate`, as users draw them: text, references, 25 steps in one program, decoding."""

import time
from functools import partial

import jax
import numpy as np
from PIL import Image

from benchmarks.flops import floor
from benchmarks.gpu.bench import Bench, peak_gib
from benchmarks.gpu.cases import ONE, PLAIN, Case, case, inputs
from benchmarks.gpu.weights import random_networks
from uno_jax.families.flow import sampling_schedule
from uno_jax.families.model import Model
from uno_jax.families.registry import family_of
from uno_jax.families.uno.sampling import denoise_latent
from uno_jax.sampling.generate import generate
from uno_jax.sharding.rules import make_mesh
from uno_jax.weights.sample_mesh import mesh_of

STEPS, PROMPT = 25, "A clock on the beach is under a red sun umbrella"
GOALS_S = {ONE: 1.5}


def run(bench: Bench) -> None:
    config = bench.model
    model = Model(config, random_networks(config, family_of(config).networks, make_mesh()))
    for sizes in (ONE, PLAIN):
        each = case(bench, sizes)
        denoising(bench, model, each)
        picture(bench, model, each, GOALS_S.get(sizes))


def picture(bench: Bench, model: Model, of: Case, goal: float | None) -> None:
    """Seconds of one picture from its prompt and references to the finished image, first and later."""
    noise = np.random.default_rng(0).integers(0, 256, (*(of.side,) * 2, 3), np.uint8)
    refs = [Image.fromarray(noise[:side, :side]) for side in of.refs]

    def draw() -> None:
        generate(
            model, [PROMPT], [refs], width=of.side, height=of.side, steps=STEPS, guidance=4.0, true_cfg=1.0
        )

    start = time.perf_counter()
    draw()
    what = f"{of}: a picture of {STEPS} steps"
    bench.record(what, first_s=time.perf_counter() - start)
    bench.record(
        what,
        s=bench.ms(draw, rounds=3, warm_up=0) / 1e3,
        goal_s=goal if bench.full else None,
        peak_GiB=peak_gib(),
    )


def denoising(bench: Bench, model: Model, of: Case) -> None:
    """The denoising loop alone."""
    shown = inputs(bench, of)
    dtype = model.compute_dtype
    given = shown.conditioning._replace(
        txt=shown.conditioning.txt.astype(dtype), vec=shown.conditioning.vec.astype(dtype)
    )
    schedule = sampling_schedule(STEPS, of.side, of.side)
    start = time.perf_counter()
    with jax.set_mesh(mesh_of(model)):
        jax.block_until_ready(denoise_latent(model, shown.latent, given, schedule))
        bench.record(f"{of}: {STEPS} steps alone", first_s=time.perf_counter() - start)
        ms = bench.ms(partial(denoise_latent, model, shown.latent, given, schedule), rounds=3, warm_up=0)
    tflop = STEPS * floor(bench.model.mmdit, of.tokens) / 1e12
    bench.record(f"{of}: {STEPS} steps alone", s=ms / 1e3, ms_a_step=ms / STEPS)
    bench.speed(f"{of}: {STEPS} steps alone", ms, tflop)
