"""What the command writes: every table both ways, dtypes, fp8, several networks in one file, leftovers."""

import json
import subprocess
import sys

import jax
import ml_dtypes
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file, save_file

from tests.tiny_model import TINY, random_params, write_model
from tests.tools.convert_weights.command import run
from tests.tools.convert_weights.golden import FLUX, GOLDEN
from tools.convert_weights import mapping, stream
from tools.convert_weights.convert import convert, plan
from tools.convert_weights.source import open_source
from tools.convert_weights.tables import clip, flux, t5, vae
from uno_jax.families.uno.config import PRESETS
from uno_jax.networks.registry import abstract_params
from uno_jax.support.errors import CheckpointError
from uno_jax.support.settings import to_dict
from uno_jax.weights.checkpoint import read_config, restore_network
from uno_jax.weights.safetensors_file import read_header, write_safetensors

MODELS = [flux.MODEL, vae.MODEL, t5.MODEL, clip.MODEL]
COMMANDS = {"mmdit": "flux", "vae": "vae", "t5": "t5", "clip": "clip"}
NAMINGS = [(model, naming) for model in MODELS for naming in model.namings]
BF16, FP8 = ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn


def equal(left, right):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.float32(a), np.float32(b)), left, right)


def params_of(model_dir, kind="mmdit"):
    return restore_network(model_dir / kind)[1]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("native") / "model")


@pytest.mark.parametrize("preset", ["flux_dev", "tiny"])
@pytest.mark.parametrize(("model", "naming"), NAMINGS, ids=[f"{m.kind}-{n.name}" for m, n in NAMINGS])
def test_a_table_fills_every_parameter_once_and_tells_its_config(model, naming, preset):
    config = getattr(PRESETS[preset], model.kind)
    params = flatten_dict(abstract_params(config)[0])
    entries = mapping.expand(model, config, naming)
    filled: dict = {}
    for entry in entries:
        parts = filled.setdefault((entry.target, entry.layer), [])
        parts.append((entry.column, entry.column + entry.rows[1] - entry.rows[0]))
    for (path, _), parts in filled.items():
        table = path[-1] not in ("kernel", "bias", "scale")  # an embedding's rows are its first axis
        ends = [0, *(end for _, end in sorted(parts))]
        assert [start for start, _ in sorted(parts)] == ends[:-1]
        assert ends[-1] == params[path].shape[0 if table else -1]
    layers = {(path, layer) for path, leaf in params.items() for layer in range(leaf.shape[0])}
    stacked = {(path, layer) for path, layer in filled if layer is not None}
    assert {path for path, _ in filled} == params.keys()
    assert stacked == {(path, layer) for path, layer in layers if (path, 0) in stacked}
    shapes = mapping.source_shapes(entries, params)
    assert model.infer(shapes, naming, model.hints(to_dict(config))) == config


@pytest.mark.slow
@pytest.mark.parametrize("kind", COMMANDS)
def test_there_and_back_is_the_same_model(model_dir, tmp_path, kind):
    file, config = tmp_path / f"{kind}.safetensors", tmp_path / "config.json"
    assert run(COMMANDS[kind], "--src", model_dir, "--dst", file) == 0
    config.write_text(json.dumps(json.loads((model_dir / kind / "config.json").read_text())["config"]))
    assert run(COMMANDS[kind], "--src", file, "--dst", tmp_path / "model", "--config", config) == 0
    assert read_config(tmp_path / "model" / kind) == getattr(TINY, kind)
    equal(params_of(tmp_path / "model", kind), params_of(model_dir, kind))


@pytest.mark.parametrize(("command", "name"), [("flux", "flux_base"), ("vae", "ae")])
def test_back_gives_the_reference_file(tmp_path, command, name):
    source, back = GOLDEN / f"{name}.safetensors", tmp_path / "back.safetensors"
    assert run(command, "--src", source, "--dst", tmp_path / "model") == 0
    assert run(command, "--src", tmp_path / "model", "--dst", back) == 0
    before, after = load_file(source), load_file(back)
    assert before.keys() == after.keys()
    equal(before, after)


@pytest.mark.slow
def test_dtype_keeps_or_casts(tmp_path):
    save_file({name: tensor.astype(BF16) for name, tensor in load_file(FLUX).items()}, tmp_path / "bf16.st")
    (tmp_path / "config.json").write_text((GOLDEN / "config.json").read_text())
    for dtype, expected in (("keep", "bfloat16"), ("fp32", "float32"), ("fp16", "float16")):
        assert run("flux", "--src", tmp_path / "bf16.st", "--dst", tmp_path / dtype, "--dtype", dtype) == 0
        params, kept = params_of(tmp_path / dtype), params_of(tmp_path / "keep")
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(params)} == {expected}
        equal(params, jax.tree.map(lambda leaf, cast: leaf.astype(cast.dtype), kept, params))


@pytest.mark.parametrize("kind", [FP8, ml_dtypes.float8_e5m2])
def test_fp8_is_widened_to_bf16(tmp_path, kind):
    """A prefix, other networks beside it, and norms in float32 are what ComfyUI's files have."""
    tensors = {}
    for name, tensor in load_file(FLUX).items():
        tensors[f"model.diffusion_model.{name}"] = tensor if "norm" in name else tensor.astype(kind)
    tensors["vae.decoder.conv_in.weight"] = np.zeros((2, 2), np.float32)
    save(tmp_path / "flux.safetensors", tensors)
    assert run("flux", "--src", tmp_path / "flux.safetensors", "--dst", tmp_path / "model") == 0
    params = params_of(tmp_path / "model")
    stored = load_file(FLUX)["img_in.weight"].astype(kind).astype(np.float32)
    assert params["img_in"]["kernel"].dtype == BF16
    assert params["single_blocks"]["norm"]["key_norm"]["scale"].dtype == np.float32
    np.testing.assert_array_equal(np.float32(params["img_in"]["kernel"]), stored.T)


def test_scaled_fp8_is_multiplied_out(tmp_path):
    tensors, name = load_file(FLUX), "double_blocks.0.img_attn.qkv"
    tensors[f"{name}.weight"] = tensors[f"{name}.weight"].astype(FP8)
    tensors[f"{name}.scale_weight"], tensors[f"{name}.scale_input"] = np.float32([0.5]), np.float32([2])
    tensors["scaled_fp8"] = np.zeros(2, FP8)
    save(tmp_path / "flux.safetensors", tensors)
    assert (
        run("flux", "--src", tmp_path / "flux.safetensors", "--dst", tmp_path / "m", "--dtype", "fp32") == 0
    )
    expected = tensors[f"{name}.weight"].astype(np.float32).T / 2
    kernel = params_of(tmp_path / "m")["double_blocks"]["img"]["qkv"]["kernel"][0]
    np.testing.assert_array_equal(kernel, expected)


def save(file, tensors):
    """Our own writer: the library's numpy side has no fp8. The config goes beside the file."""
    header = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    write_safetensors(file, header, tensors.__getitem__, {})
    (file.parent / "config.json").write_text((GOLDEN / "config.json").read_text())


@pytest.mark.slow
def test_tensors_at_odd_offsets_are_read(tmp_path):
    """The format asks for no alignment."""
    raw = FLUX.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    odd = (length + 1).to_bytes(8, "little") + raw[8 : 8 + length] + b" " + raw[8 + length :]
    (tmp_path / "odd.safetensors").write_bytes(odd)
    tensors, _ = read_header(tmp_path / "odd.safetensors")
    assert any(tensor.offset % 4 for tensor in tensors.values())
    equal({name: tensor.read() for name, tensor in tensors.items()}, load_file(FLUX))
    config = ["--config", GOLDEN / "config.json"]
    for name, source in (("odd", tmp_path / "odd.safetensors"), ("even", FLUX)):
        assert run("flux", "--src", source, "--dst", tmp_path / name, *config) == 0
    equal(params_of(tmp_path / "odd"), params_of(tmp_path / "even"))


@pytest.mark.slow
def test_large_layers_are_stored_in_pieces(tmp_path, monkeypatch):
    """Split layers are restored like others, so that a sharded restore reads only what it needs."""
    monkeypatch.setattr(stream, "SMALL", 0)
    convert(plan(flux.MODEL, open_source(FLUX)), tmp_path / "pieces")
    record = tmp_path / "pieces/mmdit/params/double_blocks.img.qkv.kernel/zarr.json"
    codec = json.loads(record.read_text())["codecs"][0]["configuration"]
    assert codec["chunk_shape"] == [1, 8, 24]
    convert(plan(flux.MODEL, open_source(FLUX)), tmp_path / "whole")
    equal(params_of(tmp_path / "pieces"), params_of(tmp_path / "whole"))


def test_a_destination_may_lie_beside_the_folder_in_which_the_command_runs(tmp_path, monkeypatch):
    """tensorstore refuses paths with dots."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run("flux", "--src", FLUX, "--dst", "../model", "--config", GOLDEN / "config.json") == 0
    assert run("flux", "--src", "../model", "--dst", "../again.safetensors") == 0
    equal(load_file(tmp_path / "again.safetensors"), load_file(FLUX))


def test_a_destination_that_is_not_utf8_is_refused(tmp_path, capsys):
    assert run("flux", "--src", FLUX, "--dst", tmp_path / "\udcff", "--config", GOLDEN / "config.json") == 2
    assert "is not UTF-8" in capsys.readouterr().err
    assert (
        run("export-lora", "--src", "small", "--dst", tmp_path / "lora.safetensors", "--format", "uno") == 0
    )
    assert (
        run("lora", "--src", tmp_path / "lora.safetensors", "--dst", tmp_path / "\udcff", "--base", "small")
        == 2
    )
    assert "is not UTF-8" in capsys.readouterr().err


KILLED = """
import os, sys
from tools.convert_weights import __main__, stream
write_all = stream.write_all
def killed(directory, shapes, jobs, *more):
    write_all(directory, shapes, jobs[: len(jobs) // 2], *more)
    os.kill(os.getpid(), 9)
stream.write_all = killed
__main__.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_killed_conversion_leaves_nothing_that_loads(tmp_path):
    arguments = ["flux", "--src", str(FLUX), "--dst", str(tmp_path / "model")]
    assert subprocess.run([sys.executable, "-c", KILLED, *arguments]).returncode == -9
    left = list((tmp_path / "model").iterdir())
    assert sorted(path.suffix for path in left) == [".lock", ".partial"]
    left = [path for path in left if path.is_dir()]
    for path in (left[0], tmp_path / "model" / "mmdit", tmp_path / "model"):
        with pytest.raises((CheckpointError, FileNotFoundError)):
            restore_network(path)
    assert run(*arguments) == 0
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["mmdit"]


def test_a_failed_conversion_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(stream, "write_all", fail)
    assert run("flux", "--src", FLUX, "--dst", tmp_path / "new" / "model") == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_overwrite_replaces(tmp_path, model_dir):
    source = tmp_path / "flux.safetensors"
    assert run("flux", "--src", model_dir, "--dst", source) == 0
    (tmp_path / "config.json").write_text(json.dumps({"axes_dim": TINY.mmdit.axes_dim}))
    assert run("flux", "--src", FLUX, "--dst", tmp_path / "model") == 0
    assert run("flux", "--src", source, "--dst", tmp_path / "model", "--overwrite") == 0
    equal(params_of(tmp_path / "model"), random_params(TINY.mmdit, 0))
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["mmdit"]


def test_inspect_names_network_config_and_tensors(model_dir, capsys):
    assert run("inspect", FLUX) == 0
    text = capsys.readouterr().out
    assert "a FLUX transformer in original naming" in text and "'depth': 2" in text
    assert "img_in.weight" in text and "84 tensors, 2.0 MB" in text
    assert run("inspect", model_dir) == 0
    text = capsys.readouterr().out
    assert "a model of uno_jax" in text and "double_blocks.img.qkv.kernel" in text and "a clip of" in text
    assert run("inspect", GOLDEN / "dit_lora.safetensors") == 0
    assert "a LoRA in uno naming, rank 4, UnoPE not recorded" in capsys.readouterr().out
