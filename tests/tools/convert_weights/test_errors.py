"""Every way a source or a destination can be wrong: exit 2, one line that says which, nothing written."""

import json
import shutil
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.tools.convert_weights.command import run
from tests.tools.convert_weights.golden import FLUX, GOLDEN
from tools.convert_weights.convert import convert, plan
from tools.convert_weights.export import export
from tools.convert_weights.lora import import_lora
from tools.convert_weights.mapping import ConversionError
from tools.convert_weights.source import open_source
from tools.convert_weights.tables import flux
from uno_jax.weights.safetensors_file import read_header

FP8 = ml_dtypes.float8_e4m3fn
LORA = GOLDEN / "dit_lora.safetensors"
CLIP = {
    "token_embedding.weight": np.ones((9, 24), np.float32),
    "transformer.resblocks.0.mlp.c_fc.weight": np.ones((48, 24), np.float32),
}


@pytest.fixture(scope="module")
def tensors():
    return load_file(FLUX)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    assert run("flux", "--src", FLUX, "--dst", folder) == 0
    return folder


@pytest.fixture
def refused(tmp_path, capsys):
    """Runs a conversion that must fail, and gives its one line of error."""

    def refused(command, src, *more):
        place = tmp_path / "new" / "place"
        assert run(command, "--src", src, "--dst", place, *more) == 2
        assert not place.parent.exists()
        told = capsys.readouterr().err.strip().splitlines()
        assert len(told) == 1 and told[0].startswith("error: ")
        return told[0]

    return refused


@pytest.fixture
def written(tmp_path):
    """Writes tensors beside the golden config."""

    def written(tensors, name="flux.safetensors"):
        folder = tmp_path / "src"
        folder.mkdir(exist_ok=True)
        save_file(tensors, folder / name)
        shutil.copy(GOLDEN / "config.json", folder)
        return folder / name

    return written


def test_another_network(refused):
    assert "not a FLUX transformer: it looks like a FLUX autoencoder" in refused(
        "flux", GOLDEN / "ae.safetensors"
    )
    assert "not a T5 v1.1 encoder: it looks like a FLUX transformer" in refused("t5", FLUX)
    assert "not a CLIP text encoder: its keys are like double_blocks.0.processor" in refused("clip", LORA)


def test_missing_and_surplus_keys(refused, written, tensors):
    less = {name: tensor for name, tensor in tensors.items() if name != "txt_in.bias"}
    assert "1 missing key (txt_in.bias)" in refused("flux", written(less))
    assert "1 surplus key (stray)" in refused("flux", written(tensors | {"stray": np.ones(1, np.float32)}))
    gone = {name: tensor for name, tensor in tensors.items() if "vector_in.in_layer" not in name}
    assert "lacks vector_in.in_layer.weight" in refused("flux", written(gone))


def test_wrong_shapes(refused, written, tensors):
    odd = tensors | {"single_blocks.1.linear2.weight": np.ones((64, 319), np.float32)}
    assert "single_blocks.1.linear2.weight (64, 319) where (64, 320) is expected" in refused(
        "flux", written(odd)
    )
    flat = tensors | {"img_in.weight": np.ones(64, np.float32)}
    assert "does not give a valid FLUX transformer" in refused("flux", written(flat))


def test_numbers_that_are_no_weights(refused, written, tensors):
    assert "floating-point" in refused("flux", written(tensors | {"txt_in.bias": np.ones(64, np.int64)}))


def test_quantised_otherwise(refused, written, tensors):
    other = tensors | {"txt_in.weight_scale": np.ones(1, np.float32)}
    assert "quantised in an unsupported way (txt_in.weight_scale)" in refused("flux", written(other))
    stray = tensors | {"txt.scale_weight": np.ones(1, np.float32)}
    assert "scales without a tensor, for txt.weight" in refused("flux", written(stray))


@pytest.mark.parametrize("keep", [3, 100, 5000, -1])
def test_truncated(refused, tmp_path, keep):
    (tmp_path / "part.safetensors").write_bytes(FLUX.read_bytes()[:keep])
    assert "part.safetensors" in (told := refused("flux", tmp_path / "part.safetensors"))
    assert "truncated" in told or "not a safetensors file" in told


def test_surplus_bytes(refused, tmp_path):
    (tmp_path / "long.safetensors").write_bytes(FLUX.read_bytes() + b"more")
    assert "damaged" in refused("flux", tmp_path / "long.safetensors")


@pytest.mark.parametrize("start", [b"PK\x03\x04rest", b"\x80\x02rest of a pickle"])
def test_pickle_by_content(refused, tmp_path, start):
    (tmp_path / "disguised.safetensors").write_bytes(start)
    assert "is a pickle" in refused("flux", tmp_path / "disguised.safetensors")


def test_a_header_as_long_as_a_pickle_begins(tmp_path):
    text = b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}'.ljust(0x0280)
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"7")
    tensors, _ = read_header(tmp_path / "a.safetensors")
    assert tensors["a"].read().tolist() == [ord("7")]


@pytest.mark.parametrize("name", ["flux.pt", "flux.bin", "flux.ckpt"])
def test_pickle_by_name(refused, tmp_path, name):
    shutil.copy(FLUX, tmp_path / name)
    assert "is a pickle" in refused("flux", tmp_path / name)
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / name).rename(folder / name)
    assert "is a pickle" in refused("flux", folder)


def test_other_formats(refused, tmp_path):
    (tmp_path / "flux.gguf").write_bytes(b"GGUF and more")
    assert "GGUF" in refused("flux", tmp_path / "flux.gguf")
    (tmp_path / "text.safetensors").write_text("hello, this is not what you think it is")
    assert "not a safetensors file" in refused("flux", tmp_path / "text.safetensors")


def test_missing_source(refused, tmp_path):
    assert "no source" in refused("flux", tmp_path / "absent.safetensors")
    assert "no source" in refused("flux", "models/absent.safetensors")
    (tmp_path / "empty").mkdir()
    assert "holds no .safetensors file" in refused("flux", tmp_path / "empty")


def test_several_files_without_index(refused, tmp_path):
    for name in ("one", "two"):
        shutil.copy(FLUX, tmp_path / f"{name}.safetensors")
    assert "several safetensors files without an index" in refused("flux", tmp_path)


def test_missing_shard(refused, tmp_path):
    index = {"weight_map": {"img_in.weight": "model-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "names missing shards: model-1.safetensors" in refused("flux", tmp_path)


def test_configs(refused, tmp_path):
    shutil.copy(FLUX, tmp_path / "flux.safetensors")
    source = tmp_path / "flux.safetensors"
    assert "the heads have 32 channels" in refused("flux", source)
    assert "no file" in refused("flux", source, "--config", tmp_path / "absent.json")
    save_file({"positional_embedding": np.ones((77, 24), np.float32)} | CLIP, tmp_path / "clip.safetensors")
    assert "its width is 24" in refused("clip", tmp_path / "clip.safetensors")
    (tmp_path / "other.json").write_text('{"d_kv": 3}')
    assert "does not describe a FLUX transformer" in refused(
        "flux", source, "--config", tmp_path / "other.json"
    )
    (tmp_path / "bad.json").write_text('{"axes_dim": [8, 12, 14]}')
    assert "expected the head size" in refused("flux", source, "--config", tmp_path / "bad.json")
    (tmp_path / "config.json").write_text("{not json")
    assert "is not readable JSON" in refused("flux", source)


def test_destination_exists(base, tmp_path, capsys):
    before = sorted(path.stat().st_mtime_ns for path in base.rglob("*"))
    assert run("flux", "--src", FLUX, "--dst", base) == 2
    assert "mmdit exists already: choose another destination, or pass --overwrite" in capsys.readouterr().err
    assert sorted(path.stat().st_mtime_ns for path in base.rglob("*")) == before
    (tmp_path / "there.safetensors").write_text("mine")
    assert run("flux", "--src", base, "--dst", tmp_path / "there.safetensors") == 2
    assert (tmp_path / "there.safetensors").read_text() == "mine"


def test_a_destination_of_the_other_kind(base, tmp_path, capsys):
    (file := tmp_path / "file").write_text("mine")
    assert run("lora", "--src", LORA, "--dst", file, "--base", base, "--overwrite") == 2
    assert "file is a file: give a directory, or remove it" in capsys.readouterr().err
    assert run("flux", "--src", base, "--dst", tmp_path, "--overwrite") == 2
    assert "is a directory: give a file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and file.read_text() == "mine"


def test_a_disk_that_fills_up(base, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise ValueError("RESOURCE_EXHAUSTED: … No space left on device")  # as tensorstore says it

    monkeypatch.setattr("uno_jax.weights.arrays.save_params", full)
    assert run("lora", "--src", LORA, "--dst", tmp_path / "lora", "--base", base) == 2
    assert (
        capsys.readouterr().err == "error: no space left on the disk: free some and run the command again\n"
    )
    assert not list(tmp_path.iterdir())


def test_no_space(base, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10_000))
    with pytest.raises(ConversionError, match="GB needed, 1e-05 GB free"):
        convert(plan(flux.MODEL, open_source(FLUX)), tmp_path / "model")
    with pytest.raises(ConversionError, match="not enough space for"):
        export(flux.MODEL, base, tmp_path / "file.safetensors")
    with pytest.raises(ConversionError, match="not enough space for"):
        import_lora(LORA, tmp_path / "lora", base)
    assert not list(tmp_path.iterdir())


def test_back_from_what_is_no_model(refused, tmp_path, base):
    shutil.copytree(base / "mmdit", tmp_path / "copy")
    (tmp_path / "copy" / "config.json").unlink()
    assert "has no config.json" in refused("flux", tmp_path / "copy")
    assert "holds a mmdit, expected vae" in refused("vae", base / "mmdit")


def test_lora_of_another_model(refused, base, tmp_path):
    told = refused("lora", LORA)
    assert "expected (rank, 3072) and (9216, rank)" in told
    assert "not a LoRA in UNO's, diffusers', BFL's or kohya's naming" in refused("lora", FLUX, "--base", base)
    assert "no model directory" in refused("lora", LORA, "--base", tmp_path / "absent")
    assert "--offset-scale must be at least 0" in refused(
        "lora", LORA, "--base", base, "--offset-scale", "-1"
    )


def test_lora_convention_is_not_contradicted(refused, base, tmp_path):
    lora, file = tmp_path / "lora", tmp_path / "w.safetensors"
    assert run("lora", "--src", LORA, "--dst", lora, "--base", base, "--unope", "w") == 0
    assert run("export-lora", "--src", lora, "--dst", file, "--format", "kohya") == 0
    assert "trained with UnoPE w, offset scale 1, not with UnoPE d" in refused(
        "lora", file, "--base", base, "--unope", "d"
    )
    shutil.rmtree(tmp_path / "lora")
    assert run("lora", "--src", file, "--dst", lora, "--base", base, "--unope", "w") == 0


def test_a_part_of_the_recorded_convention_may_be_repeated(refused, base, tmp_path):
    lora, file = tmp_path / "lora", tmp_path / "cached.safetensors"
    assert run("lora", "--src", LORA, "--dst", lora, "--base", base, "--reference-cache") == 0
    assert run("export-lora", "--src", lora, "--dst", file, "--format", "uno") == 0
    shutil.rmtree(lora)
    assert run("lora", "--src", file, "--dst", lora, "--base", base, "--unope", "d") == 0
    assert '"reference_cache": true' in (lora / "config.json").read_text()
    assert "reference cache, not with UnoPE h" in refused("lora", file, "--base", base, "--unope", "h")


def test_arguments(capsys):
    assert run("flux", "--src", FLUX) == 2
    assert run("nothing") == 2
