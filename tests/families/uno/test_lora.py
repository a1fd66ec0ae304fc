"""LoRA as a tree: initialisation as UNO's, block subsets, and merging against the side path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny_model import make_lora, random_params
from uno_jax.families.lora import merge
from uno_jax.families.uno.config import PRESETS, LoraConfig
from uno_jax.families.uno.lora import init_lora
from uno_jax.families.uno.objective import Noised, flow_loss
from uno_jax.families.uno.types import Conditioning
from uno_jax.networks.registry import network

MMDIT = PRESETS["tiny"].mmdit


@pytest.fixture(scope="module")
def loss():
    """The flow loss as a jitted function of (params, lora)."""
    rng = np.random.default_rng(3)

    def draw(*shape):
        return jnp.asarray(rng.standard_normal(shape, np.float32))

    conditioning = Conditioning(
        draw(2, 3, MMDIT.context_in_dim), draw(2, MMDIT.vec_in_dim), (draw(2, 2, 4, 16),), jnp.ones(2)
    )
    latent, noise, t = draw(2, 4, 4, 16), draw(2, 4, 4, 16), jnp.array([0.3, 0.8])

    def of(params, lora):
        variables = {"params": params, **({"lora": lora} if lora else {})}
        return flow_loss(network(MMDIT), variables, Noised(latent, noise, t), conditioning)

    return of


@pytest.fixture(scope="module")
def base():
    return random_params(MMDIT, 1)


def test_init_is_unos():
    lora = init_lora(jax.random.key(0), MMDIT, LoraConfig(rank=16))
    for leaf in jax.tree.leaves(lora):
        assert leaf.dtype == jnp.float32
    down = np.concatenate([np.ravel(lora["single_blocks"][site]["down"]) for site in ("qkv", "linear2")])
    assert abs(down.std() * 16 - 1) < 0.02 and abs(down.mean()) < 1e-3
    assert not lora["double_blocks"]["img"]["qkv"]["up"].any()


@pytest.mark.slow
def test_a_fresh_lora_changes_nothing_and_a_merged_one_equals_the_side_path(loss, base):
    loss, lora = jax.jit(loss), make_lora(MMDIT)
    plain = loss(base, None)
    assert loss(base, init_lora(jax.random.key(0), MMDIT, LoraConfig(rank=4))) == plain
    side = loss(base, lora)
    assert abs(side - plain) > 1e-2
    # One product more or less is rounded in float32: a few units in the seventh digit.
    assert float(loss(merge(base, lora), None)) == pytest.approx(float(side), rel=2e-6)
    assert loss(merge(base, lora, scale=0.0), None) == plain


@pytest.mark.slow
def test_blocks_outside_the_subset_get_no_gradient(loss, base):
    lora = init_lora(jax.random.key(0), MMDIT, LoraConfig(rank=4, double_idx=(1,), single_idx=()))
    grads = jax.jit(jax.grad(loss, argnums=1))(base, lora)
    for site in ("qkv", "proj"):
        for stream in ("img", "txt"):
            up = grads["double_blocks"][stream][site]["up"]
            assert not up[0].any() and up[1].any()
    assert not any(leaf.any() for leaf in jax.tree.leaves(grads["single_blocks"]))


def test_blocks_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match=r"LoRA adapts single_blocks \[5\], but the model has blocks 0 to 1"):
        init_lora(jax.random.key(0), MMDIT, LoraConfig(rank=4, single_idx=(0, 5)))
    with pytest.raises(ValueError, match="rank must be at least 1"):
        LoraConfig(rank=0)
