"""Models loaded with a base in 8 bits, and the devices that cannot use one."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tests.tiny_model import TINY, make_lora, random_params, write_lora, write_model
from uno_jax.families.lora import merge
from uno_jax.families.uno.config import UnoPE
from uno_jax.networks.quantize import Kernel, ProductKernel, quantize_base
from uno_jax.networks.registry import abstract_params
from uno_jax.sampling.results import common_record
from uno_jax.sharding.rules import make_mesh, tree_shardings
from uno_jax.weights.base import check_base
from uno_jax.weights.load import load_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    write_model(folder / "model")
    write_lora(folder / "lora", UnoPE())
    return folder


@pytest.mark.slow
def test_a_lora_is_merged_before_its_kernels_are_quantised(folder):
    model = load_model(folder / "model", folder / "lora", base="fp8-products")
    shapes, axes = abstract_params(TINY.mmdit)
    places = tree_shardings(make_mesh(devices=jax.devices()[:1]), axes, shapes)
    expected = {"mmdit": jax.device_put(merge(random_params(TINY.mmdit, 0), make_lora()), places)}
    quantize_base(expected, "fp8-products")
    assert type(model.params["mmdit"]["single_blocks"]["qkv"]["kernel"]) is ProductKernel
    assert type(model.params["t5"]["blocks"]["wo"]["kernel"]) is Kernel
    assert model.compute_dtype == np.float32 and model.unope == UnoPE()
    for found, wanted in zip(*map(jax.tree.leaves, (model.params["mmdit"], expected["mmdit"])), strict=True):
        assert found.dtype == wanted.dtype
        # A product summed in another order may round to a neighbouring number.
        differs = np.mean(np.float32(found) != np.float32(wanted))
        assert differs < 0.02 if wanted.dtype.itemsize == 1 else np.allclose(found, wanted, rtol=1e-5)


def device(platform, kind, capability=""):
    return SimpleNamespace(platform=platform, device_kind=kind, compute_capability=capability)


def test_products_in_float8_need_a_chip_that_has_them():
    for able in (
        device("gpu", "NVIDIA L4", "8.9"),
        device("gpu", "NVIDIA B200", "10.0"),
        device("tpu", "TPU7x"),
        device("cpu", "cpu"),
    ):
        check_base("fp8-products", able)
    for unable in (device("gpu", "NVIDIA A100-SXM4-40GB", "8.0"), device("tpu", "TPU v6 lite")):
        check_base("fp8", unable)
        with pytest.raises(ValueError, match=f"{unable.device_kind} does not: take int8 or fp8"):
            check_base("fp8-products", unable)


def test_attention_in_float8_needs_a_chip_for_which_cudnn_has_it():
    for able in (
        device("gpu", "NVIDIA H100", "9.0"),
        device("gpu", "NVIDIA B200", "10.0"),
        device("cpu", "cpu"),
    ):
        check_base("fp8-attention", able)
    for unable in (
        device("gpu", "NVIDIA L4", "8.9"),
        device("gpu", "NVIDIA GeForce RTX 5090", "12.0"),
        device("tpu", "TPU7x"),
    ):
        with pytest.raises(ValueError, match=f"{unable.device_kind} has none: take fp8-products where"):
            check_base("fp8-attention", unable)


def test_an_unknown_base_is_refused():
    with pytest.raises(ValueError, match="one of int8, fp8, fp8-products, fp8-attention or empty, got 'fp4'"):
        check_base("fp4", device("cpu", "cpu"))


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"base int8 needs qwix: pip install 'uno_jax\[quant\]'"):
        check_base("int8", device("cpu", "cpu"))


def test_pictures_record_a_base_and_old_records_stay_equal():
    assert common_record("small", "none", "float32", "int8")["base"] == "int8"
    assert "base" not in common_record("small", "none", "float32", "")
