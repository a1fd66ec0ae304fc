"""A forward of the MM-DiT in bfloat16, batch 1 with guidance, at three lengths; each compiled for the first
time.
"""

from functools import partial

import jax
import jax.numpy as jnp

from benchmarks.flops import floor
from benchmarks.flux_71m import Inputs, forward
from benchmarks.gpu.bench import Bench, since_start
from benchmarks.gpu.cases import ONE, PLAIN, TWO, case, inputs
from benchmarks.gpu.weights import random_networks
from uno_jax.networks.mmdit import MMDiT
from uno_jax.sharding.rules import make_mesh
from uno_jax.support.trees import Params, count

GOALS = {PLAIN: 115.0}
Variables = dict[str, Params]


def run(bench: Bench) -> None:
    bench.record("process start to JAX ready", s=since_start())
    with jax.set_mesh(make_mesh()):
        variables = weights(bench)
        for sizes in (PLAIN, ONE, TWO):
            each = case(bench, sizes)
            shown = inputs(bench, each)
            program = bench.compiled(str(each), program_of(bench), variables, shown)
            ms = bench.ms(partial(program, variables, shown))
            bench.speed(str(each), ms, floor(bench.model.mmdit, each.tokens) / 1e12, GOALS.get(sizes))


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
