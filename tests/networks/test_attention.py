"""Attention on each platform: splash's numbers in Pallas's interpreter, and the kernels compiled for TPUs."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from uno_jax.costs.devices import find_devices
from uno_jax.networks.attention.cpu import by_head_attention
from uno_jax.networks.attention.dispatch import Mask, attention, platform
from uno_jax.networks.attention.gpu import cudnn_attention
from uno_jax.networks.attention.tpu import splash_attention
from uno_jax.sharding.rules import make_mesh


def loss_and_grads(function, *qkv):
    return jax.jit(jax.value_and_grad(lambda *x: jnp.sum(jnp.sin(function(*x))), argnums=(0, 1, 2)))(*qkv)


@pytest.mark.parametrize("length", [40, 600])  # one padded block; two blocks of 512, the second padded
def test_splash_equals_plain_attention(length):
    q, k, v = (jax.random.normal(jax.random.key(i), (1, length, 1, 128)) for i in range(3))
    expected, expected_grads = loss_and_grads(jax.nn.dot_product_attention, q, k, v)
    found, grads = loss_and_grads(lambda *x: splash_attention(*x, None, 128**-0.5, interpret=True), q, k, v)
    assert float(found) == pytest.approx(float(expected), rel=2e-6)  # a sum of up to 76,800 values
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert jnp.abs(grad - expected_grad).max() < 1e-5


KERNELS = {
    "cpu": by_head_attention,
    "gpu": cudnn_attention,
    "tpu": lambda *x: splash_attention(*x, interpret=True),
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("samples", [1, 3])  # fewer than key heads, and more
def test_shared_keys_and_hidden_keys(kernel, samples):
    """Four query heads for two key heads, and keys that are hidden from a sample, with gradients."""
    shapes = ((samples, 40, 4, 128), (samples, 60, 2, 128), (samples, 60, 2, 128))
    q, k, v = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes))
    keys = jax.random.bernoulli(jax.random.key(3), 0.5, (samples, 60)).at[:, 7].set(True)
    plain = lambda *x: jax.nn.dot_product_attention(*x, mask=keys[:, None, None])  # noqa: E731
    expected, expected_grads = loss_and_grads(plain, q, k, v)
    found, grads = loss_and_grads(lambda *x: KERNELS[kernel](*x, keys, 128**-0.5), q, k, v)
    assert float(found) == pytest.approx(float(expected), rel=2e-6)  # a sum of up to 61,440 values
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert jnp.abs(grad - expected_grad).max() < 1e-5


def test_causal_queries_are_the_last_tokens():
    """Of 5 tokens the last 2 as queries see what they see among all 5; hidden keys stay hidden."""
    q, k, v = (jax.random.normal(jax.random.key(i), (1, 5, 2, 16)) for i in range(3))
    keys = jnp.array([[True, False, True, True, True]])
    whole = attention(q, k, v, mask=Mask(keys, causal=True))
    last = attention(q[:, 3:], k, v, mask=Mask(keys, causal=True))
    assert jnp.abs(whole[:, 3:] - last).max() < 1e-6
    alone = attention(q[:, 3:4], k[:, [0, 2, 3]], v[:, [0, 2, 3]])
    assert jnp.abs(whole[:, 3:4] - alone).max() < 1e-6


@pytest.fixture(scope="module")
def tpu_mesh():
    pytest.importorskip("libtpu", reason="compiling for a TPU takes libtpu (extra: plan)")
    return make_mesh(1, 2, 2, devices=find_devices("v5e:2x2"))


def kernels(mesh, *shape, dtype=jnp.bfloat16):
    """Number of kernels in the compiled gradient of an attention of this shape."""
    x = jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, PartitionSpec()))
    gradient = jax.jit(jax.grad(lambda *qkv: attention(*qkv).astype(jnp.float32).sum(), argnums=(0, 1, 2)))
    with jax.set_mesh(mesh):
        assert platform() == "tpu"
        return gradient.lower(x, x, x).compile().as_text().count("tpu_custom_call")


def test_tpus_run_a_flash_kernel(tpu_mesh):
    assert platform() == "cpu"
    assert kernels(tpu_mesh, 2, 600, 4, 128) == 3  # forward, backward for q, backward for k and v
    assert kernels(tpu_mesh, 1, 256, 3, 128) == 3  # neither samples nor heads divide over the mesh
    assert kernels(tpu_mesh, 2, 64, 4, 64) == 0  # half-filled lanes: T5's and CLIP's heads


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)])
def test_attention_by_head_has_plain_attentions_gradients(dtype, tolerance):
    """Fewer queries than keys, as on a sequence axis. bfloat16 rounds values up to about 2 to 2^-8."""
    shapes = ((2, 20, 3, 16), (2, 24, 3, 16), (2, 24, 3, 16))
    q, k, v = (jax.random.normal(jax.random.key(i), shape).astype(dtype) for i, shape in enumerate(shapes))
    _, expected = loss_and_grads(lambda *x: jax.nn.dot_product_attention(*x).astype(jnp.float32), q, k, v)
    _, grads = loss_and_grads(lambda *x: attention(*x).astype(jnp.float32), q, k, v)
    for grad, expected_grad in zip(grads, expected, strict=True):
        assert grad.dtype == dtype and jnp.abs(grad - expected_grad).max() < tolerance


@pytest.mark.parametrize(
    ("length", "width", "dtype", "chosen"),
    [
        (104, 64, jnp.bfloat16, "cudnn"),
        (101, 64, jnp.bfloat16, "xla"),
        (104, 512, jnp.bfloat16, "xla"),
        (104, 36, jnp.bfloat16, "xla"),
        (104, 64, jnp.float32, "xla"),
    ],
)
def test_a_gpu_takes_cudnn_where_its_gradient_exists(length, width, dtype, chosen, monkeypatch):
    found = []
    monkeypatch.setattr(
        jax.nn, "dot_product_attention", lambda *_, implementation, **__: found.append(implementation)
    )
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    x = jnp.zeros((1, length, 1, width), dtype)
    attention(x, x, x)
    assert found == [chosen]
