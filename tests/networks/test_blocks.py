"""Separate blocks compute what stacked ones do, and modulations computed before are those computed within."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from tests.tiny_model import random_params
from uno_jax.families.latents import pack, unpack
from uno_jax.families.model import Model
from uno_jax.families.uno.config import PRESETS, LoraConfig, UnoPE
from uno_jax.families.uno.lora import init_lora
from uno_jax.families.uno.sampling import denoise_latent
from uno_jax.families.uno.types import Conditioning
from uno_jax.families.uno.velocity import velocity
from uno_jax.networks.blocks import separate
from uno_jax.networks.mmdit import MMDiT
from uno_jax.networks.mmdit_blocks import BLOCKS
from uno_jax.networks.quantize import quantize_base
from uno_jax.networks.registry import abstract_params, arrange
from uno_jax.sharding.rules import make_mesh, tree_shardings

TINY = PRESETS["tiny"]
SIZE = (4, 4)


@pytest.fixture(scope="module")
def placed():
    """Stacked parameters, and a LoRA of which no part is zero."""
    mesh = make_mesh()
    shapes, axes = abstract_params(TINY.mmdit)
    params = jax.device_put(random_params(TINY.mmdit, 0), tree_shardings(mesh, axes, shapes))
    lora = init_lora(jax.random.key(1), TINY.mmdit, LoraConfig(rank=2))
    return params, jax.tree.map(lambda leaf: leaf + 0.05, lora)


def separated(params):
    """As on GPUs: single blocks' kernels are cut, too."""
    return arrange("mmdit", jax.tree.map(jnp.copy, params), "gpu")


def conditioning(batch):
    draw = np.random.default_rng(0).standard_normal
    txt, vec = draw((batch, 5, TINY.t5.d_model)), draw((batch, TINY.clip.hidden_size))
    refs = (jnp.asarray(draw((batch, 4, 4, 16)), jnp.float32),)
    return Conditioning(
        jnp.asarray(txt, jnp.float32), jnp.asarray(vec, jnp.float32), refs, jnp.full(batch, 4.0), UnoPE()
    )


@partial(jax.jit, static_argnames="remat")
def velocity_of(variables, remat="none"):
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 16, 64)), jnp.float32)
    net = MMDiT(TINY.mmdit, remat=remat)
    return velocity(net, variables, x, SIZE, jnp.array([0.3, 0.8]), conditioning(2))


def test_the_velocity_is_that_of_stacked_blocks(placed):
    params, lora = placed
    expected = velocity_of({"params": params, "lora": lora})
    found = velocity_of({"params": separated(params), "lora": lora})
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["none", "full"])
def test_so_is_the_gradient_of_a_stacked_lora(placed, remat):
    params, lora = placed

    @jax.jit
    def gradient(params):
        return jax.grad(lambda lora: jnp.mean(velocity_of({"params": params, "lora": lora}, remat) ** 2))(
            lora
        )

    trees = gradient(separated(params)), gradient(params)
    for found, expected in zip(*map(jax.tree.leaves, trees), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("arranged", [dict, separated], ids=["stacked", "separate"])
def test_the_loop_is_that_of_modulations_computed_in_each_step(placed, arranged):
    net, params, given = MMDiT(TINY.mmdit), placed[0], conditioning(2)
    noise = jnp.asarray(np.random.default_rng(2).standard_normal((2, 8, 8, 16)), jnp.float32)
    schedule = np.array([1.0, 0.6, 0.0], np.float32)
    x = pack(noise)
    for t, t_next in zip(schedule, schedule[1:], strict=False):
        v = jax.jit(velocity, static_argnums=(0, 3))(net, {"params": params}, x, SIZE, jnp.full(2, t), given)
        x += (t_next - t) * v
    found = denoise_latent(Model(TINY, {"mmdit": arranged(params)}), noise, given, schedule)
    np.testing.assert_allclose(found, unpack(x, SIZE), rtol=0, atol=2e-6 * np.abs(x).max())


def test_stacked_arrays_are_deleted_and_their_places_kept(placed):
    params = jax.tree.map(jnp.copy, placed[0])
    stacked = params["single_blocks"]["qkv"]["kernel"]
    parts = arrange("mmdit", params, "gpu")
    qk, v = parts["single_blocks"][1]["qkv"]["kernel"]
    assert stacked.is_deleted() and len(parts["single_blocks"]) == TINY.mmdit.depth_single_blocks
    assert qk.sharding.spec == v.sharding.spec == PartitionSpec(*stacked.sharding.spec[1:])
    whole = placed[0]["single_blocks"]["qkv"]["kernel"][1]
    np.testing.assert_array_equal(jnp.concatenate([qk, v], axis=-1), whole)
    rows = parts["single_blocks"][1]["linear2"]["kernel"]
    np.testing.assert_array_equal(jnp.concatenate(rows), placed[0]["single_blocks"]["linear2"]["kernel"][1])
    same = jax.tree.map(lambda left, right: left is right, arrange("mmdit", placed[0], "cpu"), placed[0])
    assert all(jax.tree.leaves(same))


def test_shapes_give_shapes():
    mesh = make_mesh()
    shapes, axes = abstract_params(TINY.mmdit)
    places = tree_shardings(mesh, axes, shapes)
    given = jax.tree.map(lambda leaf, place: leaf.update(sharding=place), shapes, places)
    kernel = separate(given, tuple(BLOCKS))["double_blocks"][0]["img"]["qkv"]["kernel"]
    assert kernel.shape == (64, 192) and kernel.sharding.mesh == mesh


@pytest.mark.parametrize("base", ["int8", "fp8-products"])
def test_a_quantized_base_can_be_separate(placed, base):
    params, lora = jax.tree.map(jnp.copy, placed[0]), placed[1]
    frozen = {"mmdit": params}
    quantize_base(frozen, base)
    expected = velocity_of({"params": frozen["mmdit"], "lora": lora})
    found = velocity_of({"params": separated(frozen["mmdit"]), "lora": lora})
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
