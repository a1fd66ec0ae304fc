"""Dense layers' products under jax's matmul precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uno_jax.networks.matmul import product


@pytest.fixture(scope="module")
def operands():
    keys = jax.random.split(jax.random.key(0), 3)
    return (
        jax.random.normal(keys[0], (2, 5, 32)),
        jax.random.normal(keys[1], (32, 24)),
        jax.random.normal(keys[2], (2, 5, 24)),
    )


def gradients(x, kernel, cotangent, precision):
    with jax.default_matmul_precision(precision):
        value, pullback = jax.vjp(product, x, kernel)
        return value, *pullback(cotangent)


def test_without_a_precision_products_are_those_of_float32(operands):
    x, kernel, _ = operands
    np.testing.assert_array_equal(product(x, kernel), x @ kernel)


def test_bfloat16_rounds_inputs_and_sums_in_float32(operands):
    """Expected from the rounded inputs in float64; only the order of float32 sums differs."""
    x, kernel, cotangent = operands
    rounded = [np.asarray(a.astype(jnp.bfloat16), np.float64) for a in operands]
    wanted = (
        np.einsum("bli,io->blo", rounded[0], rounded[1]),
        np.einsum("blo,io->bli", rounded[2], rounded[1]),
        np.einsum("bli,blo->io", rounded[0], rounded[2]),
    )
    for got, want in zip(gradients(x, kernel, cotangent, "bfloat16"), wanted, strict=True):
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, want, atol=2e-5)


def test_bfloat16_products_of_other_types_are_as_ever(operands):
    x, kernel, _ = (a.astype(jnp.bfloat16) for a in operands)
    with jax.default_matmul_precision("bfloat16"):
        assert product(x, kernel).dtype == jnp.bfloat16
