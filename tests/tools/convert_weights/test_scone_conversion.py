"""A whole BAGEL or Scone: to a model directory and back, in one file or in shards, and what is refused."""

import json
import re
import shutil

import ml_dtypes
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file, save_file

from tests.tiny_scone import SPEAKING
from tests.tools.convert_weights.bagel import FILES, PARTS, write_bagel, write_native
from tests.tools.convert_weights.command import run
from tests.tools.convert_weights.golden import FLUX
from tools.convert_weights import stream
from tools.convert_weights.scone import open_bagel, plan_scone
from tools.convert_weights.tables import mot
from uno_jax.families.scone.config import SconeDefaults
from uno_jax.tokenizers.qwen import read_tokenizer
from uno_jax.weights.checkpoint import read_model, restore_network
from uno_jax.weights.safetensors_file import read_header

LLM = "language_model.model.layers"
GATE = f"{LLM}.2.mlp_moe_gen.gate_proj.weight"


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    return write_native(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def bagel(native, tmp_path_factory):
    return write_bagel(tmp_path_factory.mktemp("bagel") / "BAGEL", native)


@pytest.fixture
def copy(bagel, tmp_path):
    """A folder of BAGEL's to damage; `tensors` change those of its file, None takes one away."""

    def copy(tensors=None, **records):
        folder = shutil.copytree(bagel, tmp_path / "BAGEL")
        if tensors is not None:
            changed = load_file(folder / "ema.safetensors") | tensors
            kept = {name: value for name, value in changed.items() if value is not None}
            save_file(kept, folder / "ema.safetensors")
        for name, record in records.items():
            (folder / f"{name}.json").write_text(json.dumps(FILES[name] | record))
        return folder

    return copy


def same(found, wanted):
    found, wanted = flatten_dict(found), flatten_dict(wanted)
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])


def test_there_and_back_is_the_same_file(bagel, native, tmp_path, capsys, monkeypatch):
    """Kernels and tables are cut into pieces and written band by band, as those of full size are; the digests
    that were made meanwhile are checked at loading.
    """
    monkeypatch.setattr(stream, "SMALL", 500)
    monkeypatch.setattr(stream, "AT_ONCE", 300)
    model, back = tmp_path / "model", tmp_path / "back.safetensors"
    assert run("scone", "--src", bagel, "--dst", model) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ignored 2 unused keys: latent_pos_embed.pos_embed, vit_pos_embed.pos_embed"
    assert [line.split()[0] for line in lines[1:]] == ["wrote"] * 4
    for kind, wanted in PARTS.items():
        config, params = restore_network(model / kind)
        assert config == wanted
        same(params, restore_network(native / kind)[1])
    table = json.loads((model / "mot/params/embed_tokens/zarr.json").read_text())
    pieces = table["codecs"][0]["configuration"]["chunk_shape"]
    assert pieces == [SPEAKING.vocab_size // 8, 32 // 8]
    assert read_tokenizer(model / "tokenizer", SPEAKING).encode("<|im_end|>") == [SPEAKING.eos_id]
    assert run("scone", "--src", model, "--dst", back) == 0
    same(load_file(back), load_file(bagel / "ema.safetensors"))


def test_names_and_shapes_are_bagels(bagel):
    """As in the published files: torch's (out, in), a linear patch embedding, tables of positions."""
    shapes = {name: tensor.shape for name, tensor in read_header(bagel / "ema.safetensors")[0].items()}
    c, layer = SPEAKING, f"{LLM}.3"
    for suffix in ("", "_moe_gen"):
        assert shapes[f"{layer}.self_attn.k_proj{suffix}.weight"] == (16, 32)
        assert shapes[f"{layer}.self_attn.k_proj{suffix}.bias"] == (16,)
        assert shapes[f"{layer}.self_attn.o_proj{suffix}.weight"] == (32, 32)
        assert shapes[f"{layer}.self_attn.q_norm{suffix}.weight"] == (8,)
        assert shapes[f"{layer}.mlp{suffix}.down_proj.weight"] == (32, 48)
        assert shapes[f"{layer}.post_attention_layernorm{suffix}.weight"] == (32,)
        assert shapes[f"language_model.model.norm{suffix}.weight"] == (32,)
        assert f"{layer}.self_attn.o_proj{suffix}.bias" not in shapes
    assert shapes["language_model.model.embed_tokens.weight"] == (c.vocab_size, 32)
    assert shapes["language_model.lm_head.weight"] == (c.vocab_size, 32)
    assert shapes["time_embedder.mlp.0.weight"] == (32, 256) and shapes["time_embedder.mlp.2.bias"] == (32,)
    assert shapes["vae2llm.weight"] == (32, 8) and shapes["llm2vae.weight"] == (8, 32)
    assert shapes["connector.fc1.weight"] == (32, 12) and shapes["connector.fc2.weight"] == (32, 32)
    assert shapes["latent_pos_embed.pos_embed"] == (64, 32) and shapes["vit_pos_embed.pos_embed"] == (36, 32)
    vit = "vit_model.vision_model"
    assert shapes[f"{vit}.embeddings.patch_embedding.weight"] == (12, 12)
    assert shapes[f"{vit}.embeddings.position_embedding.weight"] == (36, 12)
    assert shapes[f"{vit}.encoder.layers.1.self_attn.out_proj.weight"] == (12, 12)
    assert shapes[f"{vit}.encoder.layers.0.mlp.fc2.weight"] == (12, 20)
    assert shapes[f"{vit}.post_layernorm.bias"] == (12,)
    assert len(shapes) == 4 * 28 + 2 + 2 + 12 + 2 + (2 * 16 + 5)  # BAGEL's 1223 by its 28 and 26 layers


def test_positions_are_sines_then_cosines_of_the_column_then_of_the_row(bagel):
    """MAE's table of the reference, at row 3 and column 5 of a picture of 8 a side."""
    table = load_file(bagel / "ema.safetensors")["latent_pos_embed.pos_embed"]
    angles = {at: at / 10_000 ** (np.arange(8) / 8) for at in (5, 3)}
    wanted = np.concatenate([f(angles[at]) for at in (5, 3) for f in (np.sin, np.cos)])
    assert table.dtype == np.float32 and np.abs(table[3 * 8 + 5] - wanted).max() < 1e-6


def test_shards_in_bfloat16_as_scone_names_them(bagel, copy, tmp_path):
    folder = copy()
    tensors = {
        name: x.astype(ml_dtypes.bfloat16) for name, x in load_file(folder / "ema.safetensors").items()
    }
    (folder / "ema.safetensors").unlink()
    names, weights = sorted(tensors), {}
    for number in (0, 1):
        file = f"model-{number + 1:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names[number::2]}, folder / file)
        weights |= dict.fromkeys(names[number::2], file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    assert run("scone", "--src", folder, "--dst", tmp_path / "model") == 0
    _, params = restore_network(tmp_path / "model" / "mot")
    kernel = params["blocks"]["gen"]["mlp"]["gate_proj"]["kernel"]
    assert kernel.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(kernel[2], tensors[GATE].T)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert run("scone", "--src", folder, "--dst", tmp_path / "other") == 2
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_again_only_what_is_missing(bagel, copy, tmp_path, capsys):
    model = tmp_path / "model"
    assert run("scone", "--src", bagel, "--dst", model) == 0
    for gone in ("vit", "tokenizer"):
        shutil.rmtree(model / gone)
    capsys.readouterr()
    assert run("scone", "--src", bagel, "--dst", model) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["kept", "wrote", "kept", "wrote"]
    assert run("scone", "--src", copy(llm_config={"rope_theta": 1e4}), "--dst", model) == 2
    assert "holds another mixture of transformers" in capsys.readouterr().err
    (model / "tokenizer" / "merges.txt").write_text("#version: 0.1\n")
    assert run("scone", "--src", bagel, "--dst", model) == 2
    assert "holds another tokenizer" in capsys.readouterr().err


def test_sizes_of_pictures_are_those_that_have_positions(bagel):
    """The published sizes give the published defaults; a smaller model's are as large as it can take."""
    (decoder, *_), _ = plan_scone(open_bagel(bagel), bagel)
    side = SPEAKING.latent_side * SPEAKING.latent_patch * PARTS["vae"].downsampling
    assert decoder.defaults == SconeDefaults(resolution=side, ref_size=side, ref_vit_size=12)
    assert mot.defaults(mot.hints({"bridge_layer": 8, "points": 30})) == SconeDefaults(points=30)


def test_siglips_last_layer_is_ignored(copy):
    """SigLIP so400m has 27 layers, of which BAGEL uses 26."""
    name = "vit_model.vision_model.encoder.layers.26.layer_norm1.bias"
    folder = copy({name: np.ones(12, np.float32)})
    (_, eyes, _), ignored = plan_scone(open_bagel(folder), folder)
    assert eyes.config.num_layers == 2 and name in ignored


def test_inspect_names_both_networks_of_the_file(bagel, native, capsys):
    for path in (bagel, bagel / "ema.safetensors"):
        assert run("inspect", path) == 0
        told = capsys.readouterr().out
        assert "a mixture of transformers (BAGEL, Scone) in BAGEL naming" in told
        assert "a SigLIP of BAGEL in BAGEL naming, keys under vit_model." in told
        assert ("a FLUX autoencoder" in told) == path.is_dir() and "cannot be converted" not in told
    assert run("inspect", native) == 0
    told = capsys.readouterr().out
    assert all(f"a {kind} of uno_jax" in told for kind in PARTS)


FAULTS = {
    "half of the experts": (
        {GATE: None},
        {},
        rf"does not fit a mixture of transformers \(BAGEL, Scone\): 1 missing key \({GATE}\)",
    ),
    "another vocabulary": (
        {"language_model.lm_head.weight": np.ones((200, 32), np.float32)},
        {},
        r"lm_head.weight \(200, 32\) where \(264, 32\) is expected",
    ),
    "key heads": (
        {
            f"{LLM}.0.self_attn.k_proj.{name}": np.ones(shape, np.float32)
            for name, shape in (("weight", (24, 32)), ("bias", (24,)))
        },
        {},
        "num_heads 4 is not a multiple of num_kv_heads 3",
    ),
    "the bridge": (
        {},
        {"config": {"semantic_mask": {"early_layer_idx": 4}}},
        "bridge_layer 4 is outside the model's 4 layers",
    ),
    "places": (
        {},
        {"config": {"max_latent_size": 16}},
        "the positions latent_pos_embed.pos_embed for 64 places where its config.json says 256",
    ),
    "type": ({}, {"llm_config": {"rope_theta": "1e6"}}, "rope_theta must be"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_the_networks(copy, tmp_path, capsys, fault):
    tensors, records, message = FAULTS[fault]
    refused(copy(tensors or None, **records), tmp_path, capsys, message)


def refused(src, tmp_path, capsys, message, command="scone"):
    assert run(command, "--src", src, "--dst", tmp_path / "new" / "model") == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and re.search(message, told[0]), told
    assert not (tmp_path / "new").exists()


def test_a_vit_of_another_width(copy, tmp_path, capsys):
    folder = copy()
    tensors = load_file(folder / "ema.safetensors")
    tensors["connector.fc1.weight"] = np.ones((32, 24), np.float32)
    save_file(tensors, folder / "ema.safetensors")
    refused(folder, tmp_path, capsys, r"mot.vit_size and vit.hidden_size differ \(24 and 12\)")


def test_files_that_are_missing_or_cut(copy, tmp_path, capsys):
    folder = copy()
    weights = folder / "ema.safetensors"
    shutil.copy(weights, folder / "model.safetensors")
    refused(folder, tmp_path, capsys, "holds ema.safetensors and model.safetensors: give one of these files")
    (folder / "model.safetensors").unlink()
    index = folder / "ema.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {GATE: "ema-00001-of-00001.safetensors"}}))
    refused(index, tmp_path, capsys, "names missing shards: ema-00001-of-00001.safetensors")
    index.unlink()
    for name in ("vocab.json", "ae.safetensors"):
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        refused(
            folder, tmp_path, capsys, "has no tokenizer" if name == "vocab.json" else "lacks ae.safetensors"
        )
        (folder / name).write_bytes(content)
    with weights.open("r+b") as file:
        file.truncate(weights.stat().st_size - 9)
    refused(folder, tmp_path, capsys, "is truncated")


def test_a_tokenizer_of_another_model(copy, tmp_path, capsys):
    folder = copy()
    settings = json.loads((folder / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    settings["259"] = settings.pop("261")
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": settings}))
    refused(folder, tmp_path, capsys, r"<\|im_end\|> has the id 259, and the model's eos_id is 261")
    settings["400"] = settings.pop("259")
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": settings}))
    refused(folder, tmp_path, capsys, "its largest id is 400, and the model has 264 tokens")


def test_one_familys_weights_for_the_other(bagel, tmp_path, capsys):
    refused(bagel / "ema.safetensors", tmp_path, capsys, "it looks like a mixture of transformers", "flux")
    refused(
        FLUX, tmp_path, capsys, r"is not a mixture of transformers \(BAGEL, Scone\): it looks like a FLUX"
    )


@pytest.mark.parametrize("name", ["llm_config", "vit_config"])
def test_what_shapes_do_not_show_is_asked_for(copy, tmp_path, capsys, name):
    folder = copy()
    (folder / f"{name}.json").unlink()
    refused(folder, tmp_path, capsys, f"it lacks its {name}.json")


def test_a_packed_model_has_its_tokenizer_and_its_defaults(bagel, tmp_path):
    assert run("scone", "--src", bagel, "--dst", tmp_path / "model") == 0
    assert run("pack", "--model", tmp_path / "model", "--dst", tmp_path / "packed") == 0
    packed, model = read_model(tmp_path / "packed"), read_model(tmp_path / "model")
    assert packed == model and packed.defaults.resolution == 128
    tokenizers = [read_tokenizer(tmp_path / name / "tokenizer", packed.mot) for name in ("packed", "model")]
    assert tokenizers[0] == tokenizers[1]
