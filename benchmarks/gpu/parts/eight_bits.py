"""A forward with the blocks' kernels in 8 bits, as `networks.quantize` holds and multiplies them."""

import re
from collections import Counter
from functools import partial

import jax
import numpy as np

from benchmarks.flops import floor
from benchmarks.gpu.bench import H100_PEAK, Bench
from benchmarks.gpu.cases import PLAIN, case, inputs
from benchmarks.gpu.parts.forward import program_of, result_file
from benchmarks.gpu.weights import random_networks
from uno_jax.sharding.rules import make_mesh
from uno_jax.weights.base import check_base

# What multiplies, by its name in a compiled program; the first that is found.
CALLS = ("__cublas$lt$matmul$f8", "__cublas$lt$matmul", "__cublas$gemm", "__triton", "dot(")


def run(bench: Bench) -> None:
    quantized_forward(bench, "fp8-products")


def quantized_forward(bench: Bench, base: str) -> None:
    """The forward at 4608 tokens: its time beside that in bfloat16, and how close the result is to that."""
    check_base(base, jax.local_devices()[0])
    each, mesh, start = case(bench, PLAIN), make_mesh(), bench.left()
    what, bf16 = f"{each}: forward, base {base}", bench.results.figure("forward", str(each), "ms")
    with jax.set_mesh(mesh):
        variables = {"params": random_networks(bench.model, ["mmdit"], mesh, base)["mmdit"]}
        bench.record(what, weights_s=start - bench.left())
        given = variables, inputs(bench, each)
        program = bench.compiled(what, program_of(bench), *given)
        ms = bench.ms(partial(program, *given))
        tflop = floor(bench.model.mmdit, each.tokens) / 1e12
        rates = {"TFLOP/s": 1e3 * tflop / ms, "MFU_%": 1e5 * tflop / ms / H100_PEAK}
        bench.record(what, ms=ms, bf16_ms=bf16, faster=bf16 / ms if bf16 else None, **rates)
        bench.record(what, by=called(program), calls=counted(program))
        if result_file(bench).is_file():
            exact, found = np.load(result_file(bench)), np.asarray(program(*given), np.float32)
            bench.record(what, cosine_with_bf16=cosine(exact, found))


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))


def called(program: jax.stages.Compiled) -> str:
    """What multiplies in a program: of 8-bit floats cuBLAS, where XLA's own Triton kernel was not faster."""
    text = program.as_text() or ""
    return next((call for call in CALLS if call in text), "fusion")


def counted(program: jax.stages.Compiled) -> str:
    """How often a program calls each library, and Triton's products, which XLA writes itself."""
    found = Counter(re.findall(r'custom_call_target="([^"]+)"|(__triton\w*gemm)', program.as_text() or ""))
    return ", ".join(f"{number} {''.join(names)}" for names, number in found.most_common(5)) or "none"
