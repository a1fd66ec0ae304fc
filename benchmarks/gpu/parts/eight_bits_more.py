"""Eight bits, more of it: the forward whose attention is in float8 too, products of float8 and int8 matrices
against bfloat16 in the model's main shapes, and forwards with a base that holds weights only, whose kernels
are converted to bfloat16 in each product.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.cases import PLAIN, case
from benchmarks.gpu.parts.eight_bits import called, quantized_forward
from uno_jax.networks.mmdit_config import MMDiTConfig

TYPES = {"fp8": jnp.dtype(jnp.float8_e4m3fn), "int8": jnp.dtype(jnp.int8)}


def run(bench: Bench) -> None:
    with bench.attempt("forward, base fp8-attention"):
        quantized_forward(bench, "fp8-attention")
    tokens = case(bench, PLAIN).tokens
    for inner, outer in shapes(bench.model.mmdit):
        with bench.attempt(f"{tokens} x {inner} x {outer}"):
            products(bench, tokens, inner, outer)
    for base in TYPES:
        with bench.attempt(f"forward, base {base}"):
            quantized_forward(bench, base)


def shapes(config: MMDiTConfig) -> list[tuple[int, int]]:
    """Inner and outer size of the products that take most of a forward's time."""
    hidden, mlp = config.hidden_size, config.mlp_size
    return [(hidden, 3 * hidden + mlp), (hidden + mlp, hidden), (hidden, mlp), (mlp, hidden)]


def products(bench: Bench, tokens: int, inner: int, outer: int) -> None:
    """One product in bfloat16, and with both sides in 8 bits and a scale for each row and column."""
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (tokens, inner), jnp.bfloat16)
    kernel = jax.random.normal(keys[1], (outer, inner), jnp.bfloat16)  # both sides' last axes are contracted
    tflop, size = 2 * tokens * inner * outer / 1e12, f"{tokens} x {inner} x {outer}"
    cases: dict[str, tuple[Any, ...]] = {"bf16": (bf16_product, x, kernel)}
    for name, dtype in TYPES.items():
        cases[name] = (scaled_product, *quantized(x, dtype), *quantized(kernel, dtype))
    cases["fp8 with x in bf16, quantized in the call"] = (dynamic_product, x, *cases["fp8"][3:])
    exact, plain_ms = None, 0.0
    for name, (function, *args) in cases.items():
        program = jax.jit(function).lower(*args).compile()
        out = program(*args).astype(jnp.float32)
        exact = out if exact is None else exact
        ms = bench.ms(partial(program, *args), rounds=10, calls=5)
        plain_ms = plain_ms or ms
        bench.record(
            f"{size}: {name}",
            ms=ms,
            faster=plain_ms / ms,
            error=float(jnp.linalg.norm(out - exact) / jnp.linalg.norm(exact)),
            by=called(program),
            **{"TFLOP/s": 1e3 * tflop / ms},
        )


def contracted(left: Array, right: Array, dtype: Any) -> Array:
    return jax.lax.dot_general(left, right, (((1,), (1,)), ((), ())), preferred_element_type=dtype)


def bf16_product(x: Array, kernel: Array) -> Array:
    return contracted(x, kernel, jnp.bfloat16)


def scaled_product(x: Array, rows: Array, kernel: Array, columns: Array) -> Array:
    """A product of 8-bit values, with the scales of rows and columns applied to the sum."""
    integer = jnp.issubdtype(x.dtype, jnp.integer)
    total = contracted(x, kernel, jnp.int32 if integer else jnp.bfloat16)
    return (total.astype(jnp.float32) * rows * columns.T).astype(jnp.bfloat16)


def dynamic_product(x: Array, kernel: Array, columns: Array) -> Array:
    return scaled_product(*quantized(x, kernel.dtype), kernel, columns)


def quantized(x: Float[Array, "m k"], dtype: Any) -> tuple[Array, Float[Array, "m 1"]]:
    """8-bit values and a float32 scale for each row."""
    integer = jnp.issubdtype(dtype, jnp.integer)
    largest = 127.0 if integer else 448.0  # of int8 and of float8_e4m3fn
    scale = jnp.abs(x).max(1, keepdims=True).astype(jnp.float32) / largest
    values = x.astype(jnp.float32) / scale
    return (jnp.round(values) if integer else values).astype(dtype), scale
