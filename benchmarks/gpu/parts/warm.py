"""The first forward of a process that finds its program in the compilation cache (after part `forward`)."""

import jax

from benchmarks.gpu.bench import Bench, since_start
from benchmarks.gpu.cases import PLAIN, case, inputs
from benchmarks.gpu.parts.forward import program_of, weights
from uno_jax.sharding.rules import make_mesh


def run(bench: Bench) -> None:
    bench.record("process start to JAX ready", s=since_start())
    with jax.set_mesh(make_mesh()):
        variables = weights(bench)
        each = case(bench, PLAIN)
        what, shown = f"{each}: from the cache", inputs(bench, each)
        program = bench.compiled(what, program_of(bench), variables, shown)
        start = bench.left()
        jax.block_until_ready(program(variables, shown))
    bench.record(what, first_run_s=start - bench.left())
    bench.record("process start to the first result", s=since_start())
