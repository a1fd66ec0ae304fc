"""The compact form: what reads a converted model reads a packed one, and finds the same."""

import json
import shutil

import jax
import numpy as np
import pytest

from tests.tiny_model import RANK, TINY, make_lora, random_params, write_lora, write_model
from tests.tools.convert_weights.command import run
from tests.tools.convert_weights.golden import FLUX, GOLDEN
from uno_jax.families.uno.config import UnoPE
from uno_jax.families.uno.family import FAMILY
from uno_jax.support.errors import CheckpointError
from uno_jax.weights.checkpoint import read_config, read_model, restore_lora, restore_network
from uno_jax.weights.identity import fingerprint, weights_id
from uno_jax.weights.load import load_model
from uno_jax.weights.lora_files import load_lora

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    write_model(folder / "model")
    write_lora(folder / "lora", UnoPE("w", 2.0))
    assert (
        run("pack", "--model", folder / "model", "--lora", folder / "lora", "--dst", folder / "packed") == 0
    )
    return folder


@pytest.fixture
def clip(folder, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(folder / "packed" / "clip", tmp_path / "clip")


def equal(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_a_packed_model_is_one_file_a_network_and_its_records(folder):
    files = sorted(str(path.relative_to(folder / "packed")) for path in (folder / "packed").glob("*/*"))
    names = ("config.json", "digests.json", "params.safetensors")
    assert files == sorted(f"{kind}/{name}" for kind in (*FAMILY.networks, "lora") for name in names)


def test_networks_and_lora_are_restored(folder):
    assert read_model(folder / "packed") == TINY
    for seed, kind in enumerate(FAMILY.networks):
        config, params = restore_network(folder / "packed" / kind, kind)
        assert config == getattr(TINY, kind)
        equal(params, random_params(config, seed))
        assert fingerprint(folder / "packed" / kind) == fingerprint(folder / "model" / kind)
    info, params = restore_lora(folder / "packed" / "lora")
    assert (info.lora, info.unope) == (RANK, UnoPE("w", 2.0))
    equal(params, make_lora())
    equal(load_lora(folder / "packed" / "lora", TINY.mmdit)[2], make_lora())


def test_a_lora_merges_alike(folder):
    models = [load_model(folder / name, lora=folder / "lora") for name in ("model", "packed")]
    equal(models[0].params, models[1].params)


def test_dtype(folder, tmp_path):
    assert run("pack", "--model", folder / "packed", "--dst", tmp_path / "half", "--dtype", "bf16") == 0
    half = jax.tree.map(lambda leaf: leaf.astype("bfloat16"), random_params(TINY.clip, 3))
    equal(restore_network(tmp_path / "half" / "clip")[1], half)
    cast = restore_network(tmp_path / "half" / "clip", dtype="float32")[1]
    equal(cast, jax.tree.map(lambda leaf: leaf.astype("float32"), half))


def test_export_and_inspect(folder, tmp_path, capsys):
    for name in ("model", "packed"):
        assert run("flux", "--src", folder / name, "--dst", tmp_path / f"{name}.safetensors") == 0
        lora = folder / "lora" if name == "model" else folder / "packed" / "lora"
        file = tmp_path / f"{name}_lora.safetensors"
        assert run("export-lora", "--src", lora, "--dst", file, "--format", "uno") == 0
    for end in (".safetensors", "_lora.safetensors"):
        assert (tmp_path / f"model{end}").read_bytes() == (tmp_path / f"packed{end}").read_bytes()
    told = []
    for name in ("model", "packed"):
        capsys.readouterr()
        assert run("inspect", folder / name / "vae") == 0
        told.append(capsys.readouterr().out.splitlines()[1:])
    assert told[0] == told[1] and len(told[1]) > 100


def test_nothing_is_overwritten_unless_told(folder, tmp_path, capsys):
    shutil.copytree(folder / "packed" / "vae", tmp_path / "there" / "vae")
    arguments = ("pack", "--model", folder / "model", "--dst", tmp_path / "there")
    assert run(*arguments) == 2
    assert "vae exists already" in capsys.readouterr().err and len(list(tmp_path.glob("there/*"))) == 1
    assert run(*arguments, "--overwrite") == 0


def test_damaged(clip):
    file = clip / "params.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=f"{file} is damaged: .* bytes where .* were written"):
        read_config(clip)
    file.unlink()
    with pytest.raises(CheckpointError, match=f"{file} is missing"):
        read_config(clip)


@pytest.mark.parametrize("kept", ["digests.json", "config.json"], ids=["digests.json", "params_sha256"])
def test_other_bytes_are_told_by_either_record(clip, kept):
    file = clip / "params.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    if kept == "config.json":  # as before there was digests.json
        (clip / "digests.json").unlink()
    with pytest.raises(CheckpointError, match=f"{file} is damaged: its bytes are not those"):
        restore_network(clip)


def test_records_that_disagree_are_told(clip):
    path = clip / "digests.json"
    record = json.loads(path.read_text())
    record["files"]["params.safetensors"]["sha256"] = "0" * 64
    path.write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="params_sha256.* disagree about params.safetensors"):
        restore_network(clip)


def test_arrays_of_another_network(clip, folder):
    shutil.copy(folder / "packed" / "t5" / "params.safetensors", clip)
    record = (clip / "config.json").read_text()
    size = (clip / "params.safetensors").stat().st_size
    before = (folder / "packed" / "clip" / "params.safetensors").stat().st_size
    record = json.loads(record.replace(str(before), str(size)))
    del record["params_sha256"]
    (clip / "config.json").write_text(json.dumps(record))
    (clip / "digests.json").unlink()
    with pytest.raises(CheckpointError, match=r"does not fit its config\.json in .*stored, .*expected"):
        restore_network(clip)


def test_the_same_weights_converted_twice_have_one_id(tmp_path):
    ids = set()
    for name in ("one", "two"):
        source = ("--src", FLUX, "--config", GOLDEN / "config.json")
        assert run("flux", *source, "--dst", tmp_path / name) == 0
        ids.add(weights_id(tmp_path / name))
    assert len(ids) == 1
    files = [file for file in (tmp_path / "two").rglob("*") if file.is_file()]
    largest = max(files, key=lambda file: file.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[-1] ^= 1
    largest.write_bytes(content)
    assert weights_id(tmp_path / "two") not in ids
    (tmp_path / "one" / "README.md").write_text("a card")
    assert weights_id(tmp_path / "one") in ids


def test_weights_of_equal_size_are_told_apart(folder, tmp_path):
    write_model(tmp_path / "model", seed=7)
    assert run("pack", "--model", tmp_path / "model", "--dst", tmp_path / "packed") == 0
    left, right = (place / "packed" / "t5" for place in (folder, tmp_path))
    sizes = [(place / "params.safetensors").stat().st_size for place in (left, right)]
    assert sizes[0] == sizes[1] and weights_id(left) != weights_id(right)
