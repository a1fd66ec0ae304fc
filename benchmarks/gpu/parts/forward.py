"""A forward of the MM-DiT in bfloat16, batch 1 with guidance, at three lengths; each compiled for the first
time, the first alone and the others at once.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.flops import floor
from benchmarks.flux_71m import Inputs, forward
from benchmarks.gpu.bench import Bench, since_start
from benchmarks.gpu.cases import ONE, PLAIN, TWO, Case, case, inputs
from benchmarks.gpu.results import VELOCITY
from benchmarks.gpu.weights import random_networks
from uno_jax.networks.mmdit import MMDiT
from uno_jax.sharding.rules import make_mesh
from uno_jax.support.trees import Params, count

GOAL_MS = 115.0  # at 1024²
Variables = dict[str, Params]


def run(bench: Bench) -> None:
    bench.record("process start to JAX ready", s=since_start())
    with jax.set_mesh(make_mesh()):
        variables, function = weights(bench), program_of(bench)
        first, *others = (case(bench, sizes) for sizes in (PLAIN, ONE, TWO))
        with bench.attempt(str(first)):
            given = variables, inputs(bench, first)
            program = bench.compiled(str(first), function, *given)
            measure(bench, first, partial(program, *given), GOAL_MS)
            np.save(result_file(bench), np.asarray(program(*given), np.float32))
        calls = {str(each): (variables, inputs(bench, each)) for each in others}
        programs = bench.compiled_together(function, calls)
        for each in (each for each in others if str(each) in programs):
            with bench.attempt(str(each)):
                measure(bench, each, partial(programs[str(each)], *calls[str(each)]))


def measure(bench: Bench, of: Case, call: Any, goal_ms: float | None = None) -> None:
    bench.speed(str(of), bench.ms(call), floor(bench.model.mmdit, of.tokens) / 1e12, goal_ms)


def result_file(bench: Bench) -> Path:
    """Where the velocity at 1024² lies for parts that compute it otherwise."""
    return bench.results.path.with_name(VELOCITY)


def weights(bench: Bench) -> Variables:
    """The MM-DiT's variables; records how long they took."""
    start = bench.left()
    params = random_networks(bench.model, ["mmdit"], make_mesh())["mmdit"]
    bench.record(f"weights, {count(params) / 1e9:.2f} G", s=start - bench.left())
    return {"params": params}


def program_of(bench: Bench) -> jax.stages.Wrapped:
    """The jitted forward, of the same name in every part, so that the compilation cache knows it."""
    net = MMDiT(bench.model.mmdit, jnp.bfloat16)

    def one_forward(variables: Variables, shown: Inputs) -> jax.Array:
        return forward(net, variables, shown)

    return jax.jit(one_forward)
