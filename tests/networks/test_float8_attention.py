"""Attention in float8: its error, what it depends on, and the call that cuDNN gets."""

import importlib
import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from uno_jax.costs import gpus
from uno_jax.costs.devices import compiler_options, find_devices
from uno_jax.networks.attention import float8
from uno_jax.networks.attention.dispatch import attention, float8_attention
from uno_jax.sharding.rules import make_mesh

SHAPE = (2, 24, 3, 16)


def heads(seed: int, length: int = SHAPE[1]) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (SHAPE[0], length, *SHAPE[2:]))


def limits_of(q: jax.Array, k: jax.Array) -> float8.Limits:
    return float8.Limits(jnp.abs(q).max(), jnp.abs(k).max())


def test_it_is_attention_to_the_precision_of_float8():
    """Rounding changes a number by 2.6 % (root mean square; 2^-4 at most). v, the weights and the result are
    rounded, and logits of about 1, which change the weights, by q and k: five such errors, added as squares.
    """
    q, k, v = heads(0), heads(1, 40), heads(2, 40)
    exact, found = attention(q, k, v), float8_attention(q, k, v, limits_of(q, k))
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert found.dtype == q.dtype and 0.026 < error < 0.07


def test_scales_are_powers_of_two_that_no_number_exceeds():
    for limit in (1e-30, 0.02, 1.0, 7.0, *(448.0 * 2.0**n for n in range(-20, 20)), 449.0, 1e9):
        scale = float(float8.power_of_two(jnp.float32(limit)))
        assert np.frexp(scale)[0] == 0.5 and (limit < 2.0**-100 or 224 < limit * scale <= 448)


def test_a_head_depends_neither_on_its_neighbours_nor_on_loose_limits():
    q, k, v = heads(0), heads(1), heads(2)
    limits = float8.Limits(*(30 * limit for limit in limits_of(q, k)))
    found = float8_attention(q, k, v, limits)
    louder = [x.at[1].multiply(30.0) for x in (q, k, v.at[0, :, 2].multiply(1e4))]
    beside = float8_attention(*louder, limits)
    np.testing.assert_array_equal(beside[0, :, :2], found[0, :, :2])
    loose = float8_attention(q, k, v, float8.Limits(*(8 * limit for limit in limits_of(q, k))))
    assert np.linalg.norm(loose - found) < 0.01 * np.linalg.norm(found)  # the smallest of q and k are cut
    assert not float8_attention(q, k, 0 * v, limits_of(q, k)).any()


def test_heads_that_cudnn_does_not_take_are_not_rounded():
    q, k, v = (heads(seed)[..., :12] for seed in range(3))
    np.testing.assert_array_equal(float8_attention(q, k, v, limits_of(q, k)), attention(q, k, v))


def test_the_call_is_configured_as_jaxs_own():
    """JAX has a call of this kernel that it does not publish; fields that are empty there may be left out."""
    name = "jax._src.cudnn.fused_attention_stablehlo"
    private = importlib.import_module(name) if importlib.util.find_spec(name) else None
    make = getattr(private, "create_dot_product_attention_backend_config_base", None)
    if make is None:
        pytest.skip("this version of JAX has no such function")
    from jax._src.interpreters import mlir
    from jaxlib.mlir import ir

    with mlir.make_ir_context(), ir.Location.unknown():
        theirs = make(2, 3, 24, 40, ir.BF16Type.get(), 0.25, private.MaskType.NO_MASK, 0, False)
    assert without_empty(float8.configuration((2, 3, 24, 40), 0.25)) == without_empty(
        json.loads(json.dumps(theirs))
    )


def without_empty(value):
    if not isinstance(value, dict):
        return value
    kept = {name: without_empty(each) for name, each in value.items()}
    return {
        name: each
        for name, each in kept.items()
        if each not in ([], "PRIMITIVE_TYPE_INVALID", {}) and (each != "0" or name == "algo_id")
    }


def test_an_h100_gets_cudnns_kernel():
    if not any(map(importlib.util.find_spec, gpus.PLUGINS)):
        pytest.skip("compiling for a GPU takes XLA's plugin for them (extra: plan-gpu)")
    mesh = make_mesh(devices=find_devices("h100"))
    whole = NamedSharding(mesh, PartitionSpec())
    x = jax.ShapeDtypeStruct((1, 256, 4, 128), jnp.bfloat16, sharding=whole)
    limit = jax.ShapeDtypeStruct((), jnp.float32, sharding=whole)
    with jax.set_mesh(mesh):
        lowered = jax.jit(float8_attention).lower(x, x, x, float8.Limits(limit, limit))
        text = lowered.compile(compiler_options(mesh.devices.flat[0])).as_text()
    assert text.count('custom_call_target="__cudnn$fmhaSoftmaxF8"') == 1
    assert "transpose" not in text and "bf16[1,4,256,256]" not in text
