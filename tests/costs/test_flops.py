"""Counted operations against counts by hand, and the full-size model against its floor."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from benchmarks.flops import CASES, floor, forward_flops, gradient_floor
from uno_jax.costs.devices import find_devices
from uno_jax.costs.flops import count_flops
from uno_jax.families.uno.config import LoraConfig
from uno_jax.networks.attention.dispatch import attention
from uno_jax.networks.mmdit_config import MMDiTConfig
from uno_jax.sharding.rules import MESH_AXES, make_mesh
from uno_jax.support.compiler_options import PRODUCTS_APART


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def test_a_loop_counts_every_turn():
    def layers(x, kernels):
        return jax.lax.scan(lambda x, kernel: (jnp.tanh(x @ kernel), None), x, kernels)[0]

    assert count_flops(layers, shape(3, 5), shape(7, 5, 5)) == 7 * 2 * 3 * 5 * 5
    nested = jax.jit(lambda xs, kernels: jax.lax.map(lambda x: layers(x, kernels), xs))
    assert count_flops(nested, shape(4, 3, 5), shape(7, 5, 5)) == 4 * 7 * 2 * 3 * 5 * 5


def test_a_program_with_options_of_the_compiler_counts():
    product = jax.jit(jnp.matmul, compiler_options=PRODUCTS_APART["gpu"])
    assert count_flops(product, shape(2, 3), shape(3, 5)) == 2 * 2 * 3 * 5


def test_batched_products_and_gradients_count():
    def loss(q, k):
        return jnp.einsum("bld,bsd->bls", q, k).sum()

    forward = 2 * 2 * 3 * 4 * 5
    assert count_flops(loss, shape(2, 3, 5), shape(2, 4, 5)) == forward
    assert count_flops(jax.value_and_grad(loss, (0, 1)), shape(2, 3, 5), shape(2, 4, 5)) == 3 * forward
    again = jax.grad(lambda q, k: (jax.checkpoint(loss)(q, k)) ** 2)
    assert count_flops(again, shape(2, 3, 5), shape(2, 4, 5)) == 2 * forward


def test_a_gradient_that_nothing_needs_does_not_count():
    """A function with a gradient of its own makes the frozen kernel's too."""

    @jax.custom_vjp
    def product(x, kernel):
        return x @ kernel

    def backward(given, cotangent):
        x, kernel = given
        return cotangent @ kernel.T, x.T @ cotangent

    product.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), backward)

    def loss(x, kernels):
        return jax.lax.scan(lambda x, kernel: (product(x, kernel), None), x, kernels)[0].sum()

    forward = 7 * 2 * 3 * 5 * 5
    assert count_flops(jax.value_and_grad(loss), shape(3, 5), shape(7, 5, 5)) == 2 * forward
    assert count_flops(jax.value_and_grad(loss, (0, 1)), shape(3, 5), shape(7, 5, 5)) == 3 * forward


def test_shapes_may_lie_on_a_mesh_of_more_devices():
    place = NamedSharding(AbstractMesh((1, 1, 2, 1), MESH_AXES), PartitionSpec(None, "tensor"))

    def layer(x, kernel, bias):
        return jax.vmap(lambda row: row @ kernel + bias)(x)

    given = (shape(3, 4), shape(4, 6), shape(6))
    placed = [leaf.update(sharding=place) if leaf.ndim == 2 else leaf for leaf in given]
    assert count_flops(layer, *placed) == count_flops(layer, *given) == 2 * 3 * 4 * 6


def test_convolutions_count_with_groups():
    def conv(x, kernel, groups):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=layout, feature_group_count=groups
        )

    x = shape(1, 8, 8, 6)
    assert count_flops(lambda x, k: conv(x, k, 1), x, shape(3, 3, 6, 4)) == 2 * (4 * 4 * 4) * (3 * 3 * 6)
    assert count_flops(lambda x, k: conv(x, k, 2), x, shape(3, 3, 3, 4)) == 2 * (4 * 4 * 4) * (3 * 3 * 3)


def test_of_branches_the_dearest_counts():
    def branch(flag, x):
        return jax.lax.cond(flag, lambda: x @ x @ x, lambda: x @ x)

    assert count_flops(branch, jax.ShapeDtypeStruct((), jnp.bool_), shape(3, 3)) == 2 * 2 * 27


def test_a_loop_of_unknown_length_is_refused_when_it_holds_products():
    def until(step):
        return lambda x: jax.lax.while_loop(lambda x: x.sum() < 9, step, x)

    with pytest.raises(ValueError, match="a while loop"):
        count_flops(until(lambda x: x @ x), shape(3, 3))
    assert count_flops(until(lambda x: x + 1), shape(3, 3)) == 0


def test_attention_counts_in_full_for_any_devices():
    pytest.importorskip("libtpu", reason="the compiler of the extra `plan` names TPU's devices")
    x = jax.ShapeDtypeStruct((2, 256, 4, 128), jnp.bfloat16)
    with jax.set_mesh(make_mesh(1, 2, 2, devices=find_devices("v5e:2x2"))):
        assert count_flops(attention, x, x, x) == 2 * 2 * 2 * 4 * 256 * 256 * 128


def test_no_cpu_is_asked_for(monkeypatch):
    """As with JAX_PLATFORMS=cuda."""
    monkeypatch.setattr(jax, "devices", lambda platform=None: pytest.fail(f"asked for {platform}"))
    assert count_flops(lambda x: x @ x, shape(3, 3)) == 2 * 27


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_full_size_forward_is_near_its_floor(case):
    config, lengths = MMDiTConfig(), CASES[case]
    tokens = sum(lengths)
    assert 1 <= forward_flops(config, *lengths) / floor(config, tokens) <= 1.03


@pytest.mark.slow
def test_the_full_size_lora_gradient_is_near_its_floor():
    config, lora, lengths = MMDiTConfig(), LoraConfig(), CASES["(a)"]
    least = gradient_floor(config, lora, lengths[0], sum(lengths))
    assert least < forward_flops(config, *lengths, lora) < 1.05 * least
