"""Which files of a folder are read, under which names and wrappers; what `inspect` prints of strange ones."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.tiny_model import TINY, random_params
from tests.tools.convert_weights.command import run
from tests.tools.convert_weights.golden import FLUX
from tools.convert_weights.convert import plan
from tools.convert_weights.export import export
from tools.convert_weights.mapping import ConversionError
from tools.convert_weights.source import open_source
from tools.convert_weights.tables import clip, flux, t5, vae
from uno_jax.support.settings import to_dict
from uno_jax.weights.checkpoint import save_network


@pytest.fixture(scope="module")
def t5_tensors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("t5")
    save_network(folder / "t5", TINY.t5, random_params(TINY.t5, 0))
    return load_file(export(t5.MODEL, folder, folder / "t5.safetensors"))


def halves(folder, tensors, names):
    """Writes two shards and returns an index of them."""
    keys = sorted(tensors)
    parts = keys[: len(keys) // 2], keys[len(keys) // 2 :]
    for name, part in zip(names, parts, strict=True):
        save_file({key: tensors[key] for key in part}, folder / name)
    return json.dumps({"weight_map": {k: n for n, part in zip(names, parts, strict=True) for k in part}})


NOW = ["model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors"]
LEGACY = ["model-00001-of-00002.fp16.safetensors", "model-00002-of-00002.fp16.safetensors"]
PLAIN = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.mark.parametrize(
    ("names", "index"),
    [
        (NOW, "model.safetensors.index.fp16.json"),
        (LEGACY, "model.safetensors.fp16.index.json"),
        (PLAIN, "model.safetensors.index.json"),
        (["a.safetensors", "b.safetensors"], "diffusion_pytorch_model.safetensors.index.bf16.json"),
        (NOW, None),
        (LEGACY, None),
        (PLAIN, None),
    ],
)
def test_shards_of_every_name(tmp_path, t5_tensors, names, index):
    weight_map = halves(tmp_path, t5_tensors, names)
    if index:
        (tmp_path / index).write_text(weight_map)
    assert open_source(tmp_path).tensors.keys() == t5_tensors.keys()


def test_full_precision_goes_before_a_variant(tmp_path, t5_tensors):
    (tmp_path / "model.safetensors.index.fp16.json").write_text(halves(tmp_path, t5_tensors, NOW))
    save_file(t5_tensors, tmp_path / "model.safetensors")
    assert [file.name for file in open_source(tmp_path).files] == ["model.safetensors"]
    (tmp_path / "model.safetensors").rename(tmp_path / "model.fp32.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "absent.safetensors"}}')
    assert [file.name for file in open_source(tmp_path).files] == NOW


@pytest.mark.parametrize("content", ["{}", '{"weight_map": []}', '{"weight_map": {"a": 3}}', "[" * 100_000])
def test_an_index_that_is_none(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ConversionError, match="has no weight_map|is not readable JSON"):
        open_source(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../a.safetensors"}}')
    with pytest.raises(ConversionError, match="a file of its folder for each tensor"):
        open_source(tmp_path)


@pytest.mark.parametrize("prefix", ["", "text_encoders.t5xxl.transformer.", "module."])
def test_one_name_of_the_tied_table(tmp_path, t5_tensors, prefix):
    only = {k: v for k, v in t5_tensors.items() if k != "shared.weight"}
    only |= {
        "encoder.embed_tokens.weight": t5_tensors["shared.weight"],
        "logit_scale": np.ones((), np.float32),
    }
    save_file({prefix + key: tensor for key, tensor in only.items()}, tmp_path / "t5.safetensors")
    planned = plan(t5.MODEL, open_source(tmp_path))
    np.testing.assert_array_equal(planned.tensors["shared.weight"].read(), t5_tensors["shared.weight"])
    assert planned.ignored == [f"{prefix}logit_scale"]


VAE = dataclasses.replace(TINY.vae, width=16, multipliers=(1, 2), norm_groups=8, scale=0.5)
COMMANDS = {"mmdit": "flux", "vae": "vae"}


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "model.diffusion_model.",
        "diffusion_model.",
        "transformer.",
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
    ],
)
def test_prefixes_of_a_transformer(tmp_path, prefix):
    tensors = {prefix + key: tensor for key, tensor in load_file(FLUX).items()}
    save_file(tensors | {"other.weight": np.ones(1, np.float32)} if prefix[:5] == "model" else tensors,
              tmp_path / "flux.safetensors")  # fmt: skip
    (tmp_path / "config.json").write_text((FLUX.parent / "config.json").read_text())
    assert plan(flux.MODEL, open_source(tmp_path / "flux.safetensors")).config.depth == 2
    first = next(iter(tensors))
    save_file({first: tensors[first], f"{prefix}img_in.weight": tensors[f"{prefix}img_in.weight"]},
              tmp_path / "flux.safetensors")  # fmt: skip
    with pytest.raises(ConversionError, match="is not a complete FLUX transformer: it lacks double_blocks"):
        plan(flux.MODEL, open_source(tmp_path / "flux.safetensors"))


def test_wrapped_and_bare_tensors_in_one_file(tmp_path):
    tensors = load_file(FLUX)
    save_file(
        tensors | {f"module.{key}": tensor for key, tensor in tensors.items()}, tmp_path / "x.safetensors"
    )
    with pytest.raises(ConversionError, match="holds tensors twice"):
        plan(flux.MODEL, open_source(tmp_path / "x.safetensors"))


@pytest.mark.parametrize("number", [10**6, 10**8])
def test_a_layer_number_without_bounds(tmp_path, number):
    tensors = load_file(FLUX) | {f"double_blocks.{number}.img_attn.qkv.weight": np.ones(1, np.float32)}
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(ConversionError, match=r"it lacks double_blocks\.2"):
        plan(flux.MODEL, open_source(tmp_path / "x.safetensors"))


@pytest.mark.parametrize(("table", "config"), [(flux.MODEL, TINY.mmdit), (vae.MODEL, VAE)])
def test_an_exported_file_tells_its_config(tmp_path, capsys, table, config):
    save_network(tmp_path / table.kind, config, random_params(config, 0))
    file = export(table, tmp_path, tmp_path / "exported.safetensors")
    assert to_dict(plan(table, open_source(file)).config) == to_dict(config)
    save_file(load_file(file), tmp_path / "plain.safetensors")
    assert run("inspect", tmp_path / "plain.safetensors") == 0
    assert "cannot be converted: " in capsys.readouterr().out.splitlines()[1]
    assert run(COMMANDS[table.kind], "--src", tmp_path / "plain.safetensors", "--dst", tmp_path / "m") == 2
    assert "--config FILE" in (told := capsys.readouterr().err) and told.count("\n") == 1


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"axes_dims_rope": 3}, "config.json does not describe a FLUX transformer"),
        ({"axes_dims_rope": ["a", 3, 2]}, "does not give a valid FLUX transformer"),
        ({"axes_dims_rope": [8, 12, 14]}, "does not give a valid FLUX transformer"),
    ],
)
def test_a_config_that_cannot_be(tmp_path, about, message):
    (tmp_path / "flux.safetensors").symlink_to(FLUX)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "FluxTransformer2DModel"} | about))
    with pytest.raises(ConversionError, match=message):
        plan(flux.MODEL, open_source(tmp_path / "flux.safetensors"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip", "text_config": 3}))
    with pytest.raises(ConversionError, match="does not describe a CLIP text encoder"):
        clip_file = {"embeddings.token_embedding.weight": np.ones((9, 24), np.float32)}
        save_file(clip_file, tmp_path / "clip.safetensors")
        plan(clip.MODEL, open_source(tmp_path / "clip.safetensors"))


def test_names_are_printed_without_control_characters(tmp_path, capsys):
    save_file({"\x1b[31mred\n\u202e": np.ones(1, np.float32)}, tmp_path / "x.safetensors")
    assert run("inspect", tmp_path / "x.safetensors") == 0
    assert r"\x1b[31mred\n\u202e" in (printed := capsys.readouterr().out) and "\x1b" not in printed
    assert run("flux", "--src", tmp_path / "x.safetensors", "--dst", tmp_path / "m") == 2
    assert r"\x1b[31mred\n\u202e" in (told := capsys.readouterr().err) and told.count("\n") == 1


def test_a_reader_that_leaves_ends_it_in_silence():
    command = [sys.executable, "-m", "tools.convert_weights", "inspect", str(FLUX)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 141)


def test_an_index_is_a_source_and_absent_shards_are_named(tmp_path):
    tensors = load_file(FLUX)
    names = sorted(tensors)
    for number, part in enumerate((names[::2], names[1::2]), 1):
        path = tmp_path / f"model-0000{number}-of-00003.safetensors"
        save_file({name: tensors[name] for name in part}, path)
    with pytest.raises(FileNotFoundError, match="lacks shards of .*: model-00003-of-00003.safetensors"):
        open_source(tmp_path)
    weights = {name: f"model-0000{1 + place % 2}-of-00003.safetensors" for place, name in enumerate(names)}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weights}))
    assert sorted(open_source(index).tensors) == names
