"""The 8-bit base: its error and gradients against the unquantised one, its memory, and a run on it."""

import dataclasses
import importlib.util
import json
from functools import partial
from pathlib import Path
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from PIL import Image

from benchmarks import flux_71m
from tests.tiny_model import TINY, make_lora, random_params, write_model
from uno_jax.costs import gpus
from uno_jax.costs.devices import compiler_options, find_devices
from uno_jax.costs.flops import count_flops
from uno_jax.costs.program import chip_bytes
from uno_jax.data.config import DataConfig
from uno_jax.families.uno.config import LoraConfig
from uno_jax.networks import matmul
from uno_jax.networks.blocks import REMAT_POLICIES
from uno_jax.networks.layers import gelu, gelu_bound
from uno_jax.networks.mmdit import MMDiT
from uno_jax.networks.quantize import (
    FORMATS,
    AttentionKernel,
    Kernel,
    ProductKernel,
    product,
    quantize_base,
    values,
)
from uno_jax.networks.registry import abstract_params
from uno_jax.sharding.rules import make_mesh, tree_shardings
from uno_jax.support.errors import RecipeError
from uno_jax.support.trees import Params
from uno_jax.training import config_check as recipe_check
from uno_jax.training import run
from uno_jax.training.config import OptimConfig, TrainConfig
from uno_jax.training.plan import abstract_state
from uno_jax.training.recipes import load_recipe
from uno_jax.training.state import model_config
from uno_jax.weights.base import Trained

INPUTS = flux_71m.make_inputs(TINY.mmdit, 7, (4, 4), ((4, 2),))


@pytest.fixture(scope="module")
def trees() -> dict[str, Params]:
    """The tiny MM-DiT as it is and in each format."""
    shapes, axes = abstract_params(TINY.mmdit)
    places = tree_shardings(make_mesh(devices=jax.devices()[:1]), axes, shapes)
    trees = {base: {"mmdit": jax.device_put(random_params(TINY.mmdit, 0), places)} for base in ("", *FORMATS)}
    for base in FORMATS:
        quantize_base(trees[base], base)
    return {base: tree["mmdit"] for base, tree in trees.items()}


def loss(net: MMDiT, lora: Params, params: Params) -> tuple[jax.Array, jax.Array]:
    velocity = flux_71m.forward(net, {"params": params, "lora": lora}, INPUTS)
    return jnp.square(velocity - 1).mean(), velocity


@pytest.mark.parametrize("base", ["int8", "fp8"])
def test_products_may_be_rounded_to_bfloat16(trees, base):
    """Their values and the gradient for x are those of the kernel's values, rounded."""
    kernel = jax.tree.map(lambda leaf: leaf[0], trees[base]["double_blocks"]["img"]["proj"]["kernel"])
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, kernel.shape[0])), jnp.float32)

    def total(x, kernel):
        with jax.default_matmul_precision("bfloat16"):
            return jnp.square(matmul.product(x, kernel)).sum()

    found, expected = (jax.value_and_grad(total)(x, matrix) for matrix in (kernel, values(kernel)))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert found[0] != jnp.square(x @ values(kernel)).sum()


@pytest.fixture(scope="module")
def results(trees) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The velocity and the LoRA's gradient on each tree."""
    run = jax.jit(jax.grad(partial(loss, MMDiT(TINY.mmdit)), has_aux=True))
    found = {base: run(make_lora(), trees[base]) for base in get_args(Trained)}
    return {
        base: (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(grads)]), np.asarray(velocity))
        for base, (grads, velocity) in found.items()
    }


def test_no_weight_errs_by_more_than_half_a_step_of_its_format(trees):
    kernel = trees[""]["single_blocks"]["mlp"]["kernel"]
    x = jax.random.normal(jax.random.key(0), (5, kernel.shape[1]))
    for base, error in (("int8", lambda weight, scale: scale / 2), ("fp8", half_a_float8)):
        quantized = trees[base]["single_blocks"]["mlp"]["kernel"]
        assert quantized.qvalue.dtype == FORMATS[base] and quantized.scale.dtype == jnp.float32
        first = jax.tree.map(lambda part: part[0], quantized)
        bound = np.abs(x) @ np.broadcast_to(error(np.abs(kernel[0]), first.scale), kernel[0].shape)
        difference = np.abs(matmul.product(x, first) - x @ kernel[0])
        assert (difference <= bound + 1e-4).all()


def test_tokens_are_rounded_row_by_row_and_vectors_are_not(trees):
    stacked = trees["fp8-products"]["single_blocks"]["mlp"]["kernel"]
    assert isinstance(stacked, ProductKernel)
    kernel = jax.tree.map(lambda leaf: leaf[0], stacked)
    exact, rng = np.asarray(values(kernel)), np.random.default_rng(0)
    assert kernel.qvalue.shape == exact.shape[::-1]
    x = rng.standard_normal((2, 3, exact.shape[0]), np.float32) * np.float32([1e-3, 1, 1e3])[:, None]
    x[1, 1] = 0
    found = np.asarray(matmul.product(jnp.asarray(x), kernel))
    # A number errs by 2^-4 of itself at most, or half of 2^-9 of the row's scale.
    error = np.maximum(np.abs(x) * 2.0**-4, np.abs(x).max(-1, keepdims=True) / 448 * 2.0**-10)
    assert (np.abs(found - x @ exact) <= error @ np.abs(exact) * 1.0001 + 1e-9).all()
    assert not found[1, 1].any() and np.abs(found - x @ exact).max() > 0
    np.testing.assert_array_equal(matmul.product(jnp.asarray(x[1:]), kernel), found[1:])
    np.testing.assert_allclose(matmul.product(jnp.asarray(x[0]), kernel), x[0] @ exact, rtol=1e-4, atol=1e-5)


def test_a_bound_stands_for_the_last_parts_largest_number(trees):
    kernel = jax.tree.map(lambda leaf: leaf[0], trees["fp8-products"]["single_blocks"]["linear2"]["kernel"])
    width = kernel.qvalue.shape[1]
    hidden = jnp.asarray(np.random.default_rng(0).standard_normal((1, 4, width - 8)), jnp.float32)
    hidden = hidden.at[0, 0].set(-5.0)
    parts = [jnp.ones((1, 4, 8)), gelu(hidden)]
    assert (gelu_bound(hidden) >= jnp.abs(parts[1]).max(-1, keepdims=True)).all()
    plain = matmul.product_of_parts(parts, kernel)
    bounded = matmul.product_of_parts(parts, kernel, lambda: gelu_bound(hidden))
    np.testing.assert_allclose(plain, bounded, rtol=0, atol=0.05 * np.abs(plain).max())


def test_products_in_float8_are_cublas_own_for_an_h100(trees):
    if not any(map(importlib.util.find_spec, gpus.PLUGINS)):
        pytest.skip("compiling for a GPU takes XLA's plugin for them (extra: plan-gpu)")
    mesh = make_mesh(devices=find_devices("h100"))
    whole, x = NamedSharding(mesh, PartitionSpec()), jax.ShapeDtypeStruct((1, 64, 64), jnp.bfloat16)
    kernel = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype, sharding=whole),
        trees["fp8-products"]["single_blocks"]["mlp"]["kernel"],
    )
    forward = jax.jit(matmul.product)
    backward = jax.jit(jax.grad(lambda x, kernel: matmul.product(x, kernel).astype(jnp.float32).sum()))
    with jax.set_mesh(mesh):
        lowered = [each.lower(x.update(sharding=whole), kernel) for each in (forward, backward)]
        texts = [each.compile(compiler_options(mesh.devices.flat[0])).as_text() for each in lowered]
    assert all("__cublas$lt$matmul$f8" in text for text in texts) and "transpose" not in texts[0]


def half_a_float8(weight, scale):
    """e4m3: three bits after the leading one, and nothing finer than 2^-9."""
    return np.maximum(weight * 2.0**-4, scale * 2.0**-10)


# A weight errs by 0.6 % (int8: half a step of a 127th of a channel's largest, evenly spread) or 2.6 % (fp8:
# at most 2^-4) of the others' size; products in a row, each of which changes a part, add the squares.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "error", "cosine"), [("int8", 0.02, 0.999), ("fp8", 0.08, 0.99), ("fp8-products", 0.12, 0.98)]
)
def test_velocity_and_lora_gradient_stay_close(results, base, error, cosine):
    (expected_grads, expected), (grads, velocity) = results[""], results[base]
    assert 0 < np.linalg.norm(velocity - expected) / np.linalg.norm(expected) < error
    norms = np.linalg.norm(grads) * np.linalg.norm(expected_grads)
    assert grads @ expected_grads / norms > cosine


@pytest.mark.slow
def test_attention_in_float8_changes_the_velocity_little(trees):
    """More than products in float8 alone do, since q, k, v and the softmax's weights are rounded too."""
    run = jax.jit(lambda tree: loss(MMDiT(TINY.mmdit), make_lora(), tree)[1])
    exact, products, found = (run(trees[base]) for base in ("", "fp8-products", "fp8-attention"))
    assert (
        np.linalg.norm(found - products) > 0 and np.linalg.norm(found - exact) / np.linalg.norm(exact) < 0.15
    )
    kernels = [trees["fp8-attention"]["single_blocks"][name]["kernel"] for name in ("qkv", "mlp")]
    assert [type(kernel) for kernel in kernels] == [AttentionKernel, ProductKernel]


@pytest.mark.slow
@pytest.mark.parametrize("remat", REMAT_POLICIES)
def test_remat_repeats_the_same_products_as_without(trees, remat):
    gradient = jax.grad(partial(loss, MMDiT(TINY.mmdit, remat=remat)), has_aux=True)
    work = {count_flops(gradient, make_lora(), trees[base]) for base in get_args(Trained)}
    assert len(work) == 1


@pytest.mark.slow
def test_the_backward_pass_keeps_eight_bits(trees):
    kernel = jax.tree.map(lambda part: part[0], trees["int8"]["single_blocks"]["mlp"]["kernel"])
    kept = jax.eval_shape(lambda x, k: jax.vjp(lambda x: product(x, k), x)[1], jnp.ones((5, 64)), kernel)
    shapes = {(leaf.shape, leaf.dtype.name) for leaf in jax.tree.leaves(kept)}
    assert shapes == {(kernel.shape, "int8"), (kernel.scale.shape, "float32")}


@pytest.mark.slow
def test_the_plan_holds_half_the_frozen_bytes():
    config = dataclasses.replace(load_recipe("configs/uno_stage1.py"), weights="")
    mesh, model = make_mesh(devices=jax.devices()[:1]), model_config(config)
    frozen = {
        base: abstract_state(dataclasses.replace(config, base=base), model, mesh)[1]
        for base in get_args(Trained)
    }
    for base in get_args(Trained)[1:]:
        assert 0.5 < chip_bytes(frozen[base]) / chip_bytes(frozen[""]) < 0.52
    plain = frozen[""]["t5"]["blocks"]["wo"]["kernel"]
    kernel = frozen["int8"]["t5"]["blocks"]["wo"]["kernel"]
    assert isinstance(kernel, Kernel) and kernel.qvalue.sharding == plain.sharding
    assert plain.sharding.spec == PartitionSpec(None, "tensor", "fsdp")
    assert kernel.scale.sharding.spec == PartitionSpec(None, None, "fsdp")


@pytest.fixture
def config(tmp_path) -> TrainConfig:
    photo = Path(__file__).parents[1] / "assets" / "photos" / "coffee.jpg"
    Image.open(photo).resize((64, 64)).save(tmp_path / "a.jpg")
    (tmp_path / "pairs.json").write_text(
        json.dumps([{"prompt": "coffee", "image_paths": ["a.jpg"], "image_tgt_path": "a.jpg"}])
    )
    return TrainConfig(
        workdir=str(tmp_path / "run"),
        preset="tiny",
        weights=str(write_model(tmp_path / "weights")),
        lora=LoraConfig(rank=4),
        data=DataConfig(path=str(tmp_path / "pairs.json"), resolution=64, ref_resolution=32),
        optim=OptimConfig(learning_rate=1e-2),
        batch_size=1,
        steps=1,
        base="int8",
        log_every=1,
    )


@pytest.mark.slow
def test_a_run_trains_the_lora_and_resumes(config):
    first = run.train(config)
    assert (first.step, first.skipped) == (1, 0) and np.any(
        first.trainable["lora"]["single_blocks"]["qkv"]["up"]
    )
    loss = json.loads((Path(config.workdir) / "metrics.jsonl").read_text())["loss"]
    assert np.isfinite(loss)
    again = run.train(config)  # from its checkpoint, with no step left
    for whole, restored in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(whole, restored)


def test_what_cannot_be_quantised_is_refused(config, monkeypatch):
    wrong = dataclasses.replace(config)
    for base in ("int4", "fp8-attention"):  # the latter has no gradient
        object.__setattr__(wrong, "base", base)  # the constructor's types do not allow it
        with pytest.raises(
            RecipeError, match=f"base must be int8, fp8, fp8-products or empty .dtype., got '{base}'"
        ):
            run.train(wrong)
    with pytest.raises(RecipeError, match=r"must name lora/… only, got lora/\.\*, mmdit/img_in/\.\*"):
        run.train(dataclasses.replace(config, trainable=("lora/.*", "mmdit/img_in/.*")))
    monkeypatch.setattr(recipe_check.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"pip install 'uno_jax\[quant\]'"):
        run.train(config)
