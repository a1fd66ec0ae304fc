"""Attention on each platform: splash's numbers in Pallas's interpreter, and the kernels compiled for TPUs."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks import splash
from uno_jax.costs.devices import find_devices
from uno_jax.networks.attention.cpu import by_head_attention
from uno_jax.networks.attention.dispatch import Mask, attention, platform
from uno_jax.networks.attention.gpu import cudnn_attention
from uno_jax.networks.attention.tpu import block_of, largest_block, splash_attention
from uno_jax.sharding.rules import make_mesh


def loss_and_grads(function, *qkv):
    return jax.jit(jax.value_and_grad(lambda *x: jnp.sum(jnp.sin(function(*x))), argnums=(0, 1, 2)))(*qkv)


@pytest.mark.parametrize("length", [40, 600])  # one padded block; two of 384 in float32, the second padded
def test_splash_equals_plain_attention(length):
    q, k, v = (jax.random.normal(jax.random.key(i), (1, length, 1, 128)) for i in range(3))
    expected, expected_grads = loss_and_grads(jax.nn.dot_product_attention, q, k, v)
    found, grads = loss_and_grads(lambda *x: splash_attention(*x, None, 128**-0.5), q, k, v)
    assert float(found) == pytest.approx(float(expected), rel=2e-6)  # a sum of up to 76,800 values
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert jnp.abs(grad - expected_grad).max() < 1e-5


KERNELS = {
    "cpu": by_head_attention,
    "gpu": cudnn_attention,
    "tpu": splash_attention,
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


def test_blocks_are_those_of_the_chip_in_use(tpu_mesh):
    """Of v6e, for which more than v5e's 1,024 are chosen."""
    mesh = make_mesh(1, 2, 2, devices=find_devices("v6e:2x2"))
    x = jax.ShapeDtypeStruct((2, 1400, 2, 128), jnp.bfloat16, sharding=NamedSharding(mesh, PartitionSpec()))
    with jax.set_mesh(mesh):
        assert "f32[1408,128]" in jax.jit(attention).lower(x, x, x).compile().as_text()


def test_blocks_pad_little():
    v5e, v6e = (largest_block(chip, 128, jnp.bfloat16) for chip in ("TPU v5 lite", "TPU v6 lite"))
    assert (v5e, v6e) == (1024, 1536)
    assert [block_of(4608, largest) for largest in (v5e, v6e)] == [768, 1536]  # no padding
    assert [block_of(2560, largest) for largest in (v5e, v6e)] == [640, 1280]  # none either
    assert block_of(3248, v6e) == 1152 and block_of(40, v6e) == 128 and block_of(1500, v6e) == 1536
    assert largest_block("TPU v6 lite", 256, jnp.float32) == 384  # a quarter: it takes four times the memory
    for size in range(1, 20_000, 37):
        for largest in (v5e, v6e):
            block = block_of(size, largest)
            assert block % 128 == 0 and -size % block <= -size % 512 + 0.05 * size


def test_the_table_of_blocks_says_what_compiles(tpu_mesh):
    ((*_, blocks, memory, added, before),) = splash.rows("v5e:2x2", {"": splash.Case(1100, 2049, 2, True)})
    assert (blocks, added, before) == ("640 x 768", "30.8%", "74.5%")
    assert all(0 < float(each) < 16 for each in memory.split(", "))


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
