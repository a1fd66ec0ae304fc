"""The native format: what is saved is restored, sharded and cast; incomplete checkpoints are errors."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.devices import simulated
from tests.tiny_model import RANK, TINY, make_lora, random_params, write_lora, write_model
from tools.convert_weights import stream
from tools.convert_weights.convert import convert, plan
from tools.convert_weights.export import export
from tools.convert_weights.pack import pack_network
from tools.convert_weights.source import open_source
from tools.convert_weights.tables import t5
from uno_jax.families.uno.config import UnoPE
from uno_jax.families.uno.lora import LoraInfo
from uno_jax.networks.t5 import T5Config
from uno_jax.support.errors import CheckpointError
from uno_jax.weights import checkpoint
from uno_jax.weights.checkpoint import read_config, read_lora, read_model, restore_network


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("native") / "model")


@pytest.fixture
def clip(model, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(model / "clip", tmp_path / "clip")


def equal(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_a_model_is_restored_as_it_was_saved(model):
    assert read_model(model) == TINY
    config, params = restore_network(model / "clip", "clip")
    assert config == TINY.clip
    equal(params, random_params(TINY.clip, 3))


def test_dtype_is_kept_or_cast(tmp_path):
    half = jax.tree.map(lambda leaf: leaf.astype("bfloat16"), random_params(TINY.clip, 0))
    checkpoint.save_network(tmp_path / "clip", TINY.clip, half)
    equal(restore_network(tmp_path / "clip")[1], half)
    cast = restore_network(tmp_path / "clip", dtype="float32")[1]
    equal(cast, jax.tree.map(lambda leaf: leaf.astype("float32"), half))


def test_a_lora_keeps_its_convention(tmp_path):
    write_lora(tmp_path / "lora", UnoPE("w", 2.0))
    info, params = checkpoint.restore_lora(tmp_path / "lora")
    assert info == LoraInfo(TINY.mmdit, RANK, UnoPE("w", 2.0)) == read_lora(tmp_path / "lora")
    equal(params, make_lora())


def test_nothing_is_overwritten_unless_told(model, tmp_path):
    params = random_params(TINY.clip, 5)
    with pytest.raises(FileExistsError, match="clip exists already"):
        checkpoint.save_network(model / "clip", TINY.clip, params)
    equal(restore_network(model / "clip")[1], random_params(TINY.clip, 3))
    for _ in range(2):
        checkpoint.save_network(tmp_path / "clip", TINY.clip, params, overwrite=True)
    equal(restore_network(tmp_path / "clip")[1], params)
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]


def test_a_failed_write_leaves_what_was_there(tmp_path):
    (tmp_path / "there").mkdir()
    with (
        pytest.raises(KeyboardInterrupt),
        checkpoint.atomic_directory(tmp_path / "there", overwrite=True) as aside,
    ):
        (aside / "file").write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), checkpoint.atomic_directory(tmp_path / "new" / "deep"):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_missing_and_interrupted(clip, model, tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint directory"):
        read_config(tmp_path / "absent")
    (clip / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no config.json \(it holds digests.*params\).*interrupted"):
        read_config(clip)
    lacking = shutil.copytree(model, tmp_path / "lacking", ignore=shutil.ignore_patterns("t5"))
    with pytest.raises(CheckpointError, match="is not a complete model: it lacks t5"):
        read_model(lacking)


def test_copied_in_part(clip):
    largest = max((clip / "params").rglob("*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=f"{largest} is damaged: .* bytes where .* were written"):
        restore_network(clip)
    (clip / "digests.json").unlink()
    with pytest.raises(CheckpointError, match="damaged or was copied in part"):
        restore_network(clip)
    shutil.rmtree(clip / "params")
    with pytest.raises(CheckpointError, match="holds 0 bytes of parameters where"):
        restore_network(clip)


def edit(folder, **changes):
    record = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(record | changes))
    (folder / "digests.json").unlink(missing_ok=True)  # which would tell the change


def test_another_kind_or_format(clip, tmp_path):
    with pytest.raises(CheckpointError, match="holds a clip, expected t5"):
        restore_network(clip, "t5")
    with pytest.raises(CheckpointError, match="holds a clip, expected a lora"):
        read_lora(clip)
    write_lora(tmp_path / "lora", UnoPE())
    with pytest.raises(CheckpointError, match="holds a lora, expected mmdit or"):
        read_config(tmp_path / "lora")
    edit(clip, format=2)
    with pytest.raises(CheckpointError, match="has format 2; this program reads format 1"):
        read_config(clip)


@pytest.mark.parametrize("text", ["{not json", "[]", '{"format": 1}'])
def test_unreadable_record(clip, text):
    (clip / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_config(clip)


def test_record_and_arrays_disagree(clip):
    config = json.loads((clip / "config.json").read_text())["config"]
    edit(clip, config=config | {"hidden_size": 48})
    with pytest.raises(CheckpointError, match=r"in 19 arrays: .*stored, .*expected"):
        restore_network(clip)
    edit(clip, config=config | {"depth": 3})
    with pytest.raises(CheckpointError, match="CLIPConfig has no field depth"):
        restore_network(clip)


SIZES = T5Config(vocab_size=64, d_model=64, d_kv=8, d_ff=256, num_layers=2, num_heads=8)
SHARDED = """
import sys
import jax, numpy as np
from tests.weights.test_checkpoint import SIZES
from tests.tiny_model import random_params
from uno_jax.weights.checkpoint import restore_network
from uno_jax.sharding.rules import make_mesh

put, device_put = [], jax.device_put
def recorded(x, *more, **about):
    put.extend(jax.tree.map(np.shape, jax.tree.leaves(x)))
    return device_put(x, *more, **about)

params, jax.device_put = random_params(SIZES, 0), recorded
_, restored = restore_network(sys.argv[1], mesh=make_mesh(data=1, fsdp=4, tensor=2))
kernel = restored["blocks"]["wi_0"]["kernel"]
assert kernel.sharding.spec == jax.sharding.PartitionSpec(None, "fsdp", "tensor"), kernel.sharding
assert {shard.data.shape for shard in kernel.addressable_shards} == {(2, 16, 128)}
assert (2, 16, 128) in put
assert not set(put) & {leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim == 3}, put
jax.tree.map(np.testing.assert_array_equal, restored, params)
print("sharded")
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["saved", "converted", "packed"])
def test_each_shard_is_read_to_its_device(tmp_path, monkeypatch, form):
    """On eight simulated devices a sharded array is never transferred as a whole."""
    place = tmp_path / "model" / "t5"
    checkpoint.save_network(place, SIZES, random_params(SIZES, 0))
    if form == "packed":
        pack_network(place, tmp_path / "packed", "keep", overwrite=False)
        place = tmp_path / "packed"
    if form == "converted":  # there and back, in the layout that the converter writes layer by layer
        monkeypatch.setattr(stream, "SMALL", 0)
        export(t5.MODEL, place, tmp_path / "t5.safetensors")
        place = convert(plan(t5.MODEL, open_source(tmp_path / "t5.safetensors")), tmp_path / "again")
    command = [sys.executable, "-c", SHARDED, place]
    done = subprocess.run(command, env=simulated(8), capture_output=True, text=True)
    assert done.stdout == "sharded\n", done.stderr
