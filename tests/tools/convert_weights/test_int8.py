"""`--dtype int8`: what is written is what a base in 8 bits holds in memory, and every reader finds it."""

import importlib.util
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.devices import simulated
from tests.tiny_model import write_lora, write_model
from tests.tools.convert_weights.command import run
from uno_jax.families.uno.config import UnoPE
from uno_jax.networks.quantize import Kernel, quantized, values
from uno_jax.support.errors import CheckpointError
from uno_jax.weights.checkpoint import restore_network
from uno_jax.weights.identity import fingerprint
from uno_jax.weights.load import load_model

QKV = ("double_blocks", "img", "qkv", "kernel")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, and the same in 8 bits: packed, and converted from files."""
    folder = tmp_path_factory.mktemp("int8")
    write_model(folder / "model")
    write_lora(folder / "lora", UnoPE())
    assert run("pack", "--model", folder / "model", "--dst", folder / "packed", "--dtype", "int8") == 0
    for kind, command in (("mmdit", "flux"), ("t5", "t5")):
        file = folder / f"{kind}.safetensors"
        assert run(command, "--src", folder / "model", "--dst", file) == 0
        assert run(command, "--src", file, "--dst", folder / "converted", "--dtype", "int8") == 0
    return folder


def equal(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def leaf(tree, path=QKV):
    for name in path:
        tree = tree[name]
    return tree


def loaded(directory, lora=None, base="int8"):
    return load_model(directory, lora, "float32", base).params


def test_kernels_are_what_a_base_in_8_bits_holds(folder):
    packed, quantised = loaded(folder / "packed"), loaded(folder / "model")
    assert isinstance(leaf(packed["mmdit"]), Kernel)
    equal(packed, quantised)


def test_a_converted_network_is_the_packed_one(folder):
    for kind in ("mmdit", "t5"):
        equal(*(restore_network(folder / name / kind, kind)[1] for name in ("converted", "packed")))
    assert fingerprint(folder / "converted/t5") == fingerprint(folder / "packed/t5")


def test_without_a_base_kernels_are_widened(folder):
    plain = loaded(folder / "packed", base="")
    np.testing.assert_array_equal(leaf(plain["mmdit"]), values(leaf(loaded(folder / "model")["mmdit"])))
    exact = leaf(loaded(folder / "model", base="")["mmdit"])
    assert 0 < np.abs(leaf(plain["mmdit"]) - exact).max() <= np.abs(exact).max() / 254 * 1.01
    assert leaf(restore_network(folder / "packed/mmdit")[1]).dtype == "bfloat16"


def test_a_lora_is_merged_into_widened_kernels(folder):
    merged = leaf(loaded(folder / "packed", folder / "lora", base="")["mmdit"])
    found = leaf(loaded(folder / "packed", folder / "lora")["mmdit"])
    equal(found, quantized("mmdit", QKV, merged, "int8"))


SHARED = """
import sys
import jax
import numpy as np
from uno_jax.sharding.rules import make_mesh
from uno_jax.weights.load import load_model

read = lambda name, **how: load_model(f"{sys.argv[1]}/{name}", None, "float32", "int8", **how).params
mesh = make_mesh(fsdp=1, tensor=2)
shared, quantised = read("packed", mesh=mesh), read("model", mesh=mesh)
assert not shared["mmdit"]["double_blocks"]["img"]["qkv"]["kernel"].qvalue.sharding.is_fully_replicated
for left, right in zip(*map(jax.tree.leaves, (shared, quantised)), strict=True):
    assert left.sharding == right.sharding
    np.testing.assert_array_equal(left, right)
"""


@pytest.mark.slow
def test_devices_share_the_kernels(folder):
    subprocess.run([sys.executable, "-c", SHARED, str(folder)], env=simulated(2), check=True)


@pytest.mark.slow
def test_merging_a_lora_keeps_8_bits(folder, tmp_path):
    merge = ["export-lora", "--src", folder / "lora", "--merge"]
    assert run(*merge, folder / "packed", "--dst", tmp_path / "kept") == 0
    equal(loaded(tmp_path / "kept"), loaded(folder / "packed", folder / "lora"))
    assert run(*merge, folder / "model", "--dst", tmp_path / "new", "--dtype", "int8") == 0
    equal(loaded(tmp_path / "new"), loaded(folder / "model", folder / "lora"))


@pytest.mark.slow
def test_packing_copies_or_widens(folder, tmp_path):
    assert run("pack", "--model", folder / "packed", "--dst", tmp_path / "copy") == 0
    name = "mmdit/params.safetensors"
    assert (tmp_path / "copy" / name).read_bytes() == (folder / "packed" / name).read_bytes()
    assert run("pack", "--model", folder / "packed", "--dst", tmp_path / "wide", "--dtype", "fp32") == 0
    equal(loaded(tmp_path / "wide", base=""), loaded(folder / "packed", base=""))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["flux", "--src", "packed"], "mmdit holds kernels in 8 bits, which no other program reads"),
        (["flux", "--src", "model", "--dtype", "int8"], "--dtype int8 is for model directories"),
        (["export-lora", "--src", "lora", "--format", "uno", "--dtype", "int8"], "--dtype int8 is for model"),
    ],
)
def test_files_for_other_programs_have_no_8_bits(folder, capsys, monkeypatch, words, message):
    monkeypatch.chdir(folder)
    assert run(*words, "--dst", "new.safetensors") != 0
    assert message in capsys.readouterr().err
    assert not (folder / "new.safetensors").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("pack", "--model", "model", "--dtype", "int8"),
        ("export-lora", "--src", "lora", "--merge", "packed"),
    ],
)
def test_qwix_is_asked_for_before_anything_is_written(folder, tmp_path, capsys, monkeypatch, words):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.chdir(folder)
    assert run(*words, "--dst", tmp_path / "new") != 0
    assert "kernels in 8 bits need qwix: pip install 'uno_jax[quant]'" in capsys.readouterr().err
    assert not list(tmp_path.glob("new/*"))


def test_8_bits_without_scales_are_refused(folder, tmp_path):
    tensors = load_file(folder / "packed/mmdit/params.safetensors")
    del tensors["double_blocks/img/qkv/kernel_scale"]
    save_file(tensors, tmp_path / "params.safetensors")
    record = json.loads((folder / "packed/mmdit/config.json").read_text())
    del record["params_sha256"]
    record["params_bytes"] = (tmp_path / "params.safetensors").stat().st_size
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="qkv.kernel is stored as int8, expected floating-point"):
        restore_network(tmp_path)
