"""Encoders from files of every naming: file -> command -> loaded network -> transformers' outputs.

The modules are transformers', tiny and random; the original namings are written from them by hand.
"""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers import ViTConfig as TorchViTConfig
from transformers import ViTModel as TorchViTModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tests.tools.convert_weights.command import run
from tools.convert_weights import mapping
from tools.convert_weights.tables import vit
from uno_jax.evaluation.encoders import image_features, load_encoder, text_features
from uno_jax.networks.registry import abstract_params, apply
from uno_jax.networks.vit import VITS
from uno_jax.support.settings import to_dict
from uno_jax.tokenizers import clip_tokens
from uno_jax.weights.checkpoint import read_config, restore_network

pytestmark = pytest.mark.slow

SIZES = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, patch_size=4, image_size=20)
MLP = dict(intermediate_size=48)
TOLERANCE = 2e-5  # of the largest value
OURS = {"patch_size": 4, "num_heads": 2}  # what a file of an original naming does not tell
TEXT = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
PROMPTS = ["a red cup on a table", "two dogs"]


def clip_config(**more):
    return CLIPConfig(vision_config={**SIZES, **MLP, **more}, text_config={**TEXT, **more}, projection_dim=12)


def siglip_config():
    return SiglipConfig(vision_config={**SIZES, **MLP}, text_config={**TEXT, "vocab_size": 99})


MAKE = {
    "dino": lambda: TorchViTModel(TorchViTConfig(**SIZES, **MLP), add_pooling_layer=False),
    "dinov2": lambda: Dinov2Model(Dinov2Config(**SIZES)),
    "registers": lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SIZES, num_register_tokens=3)),
    "giant": lambda: Dinov2Model(Dinov2Config(**SIZES, use_swiglu_ffn=True)),
    "clip": lambda: CLIPModel(clip_config()),
    "open_clip": lambda: CLIPModel(clip_config(hidden_act="gelu")),
    "siglip": lambda: SiglipVisionModel(SiglipVisionConfig(**SIZES, **MLP)),
    "siglip full": lambda: SiglipModel(siglip_config()),
}


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Modules by name, with their folder as transformers saves it. Every parameter is random."""
    made = {}

    def module(name):
        if name not in made:
            torch.manual_seed(len(made))
            module, folder = MAKE[name]().eval(), tmp_path_factory.mktemp("saved")
            with torch.no_grad():
                for path, tensor in module.named_parameters():
                    one = tensor.ndim == 1 and ("norm" in path or "layrnorm" in path or "lambda" in path)
                    tensor.copy_(torch.randn_like(tensor) / 5 + (1 if one and "bias" not in path else 0))
            module.save_pretrained(folder)
            made[name] = module, folder
        return made[name]

    return module


def close(ours, theirs):
    ours, theirs = np.asarray(ours), theirs.detach().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE * np.abs(theirs).max())


def picture_features(module, pixels):
    """transformers' features of channels-last pixels."""
    pixels = torch.from_numpy(pixels.transpose(0, 3, 1, 2))
    with torch.no_grad():
        if hasattr(module, "get_image_features"):
            return module.get_image_features(pixels).pooler_output
        found = module(pixels)
        return found.pooler_output if found.pooler_output is not None else found.last_hidden_state[:, 0]


def check(module, directory, side=20):
    pixels = np.random.default_rng(0).standard_normal((2, side, side, 3)).astype(np.float32)
    config, params = restore_network(directory / "vit", "vit")
    features = jax.jit(lambda v, x: apply(config, v, x))({"params": params}, pixels)
    close(features, picture_features(module, pixels))
    return config


def renamed(state, words, together=()):
    """Keys with words replaced in their order; tensors whose names end in `together` joined as `qkv`."""
    found = {}
    for name, tensor in state.items():
        for parts, whole in together:
            if parts[0] in name:
                tensor = torch.cat([state[name.replace(parts[0], part)] for part in parts])
                name = name.replace(parts[0], whole)
            elif any(part in name for part in parts):
                name = ""
        for theirs, original in words:
            name = name.replace(theirs, original)
        if name:
            found[name] = tensor.contiguous()
    return found


def facebook_names(state):
    """DINO's and DINOv2's own keys, from transformers' of the file."""
    attention = [f"attention.attention.{part}" for part in ("query", "key", "value")]
    words = [("encoder.layer.", "blocks."), ("attention.output.dense", "attn.proj")]
    words += [("embeddings.patch_embeddings.projection", "patch_embed.proj"), ("layernorm_before", "norm1")]
    words += [("embeddings.position_embeddings", "pos_embed"), ("embeddings.", ""), ("lambda1", "gamma")]
    words += [("layernorm_after", "norm2"), ("intermediate.dense", "mlp.fc1"), ("output.dense", "mlp.fc2")]
    words += [("layer_scale", "ls"), ("layernorm", "norm"), ("weights_in", "w12"), ("weights_out", "w3")]
    return renamed(state, words, [(attention, "attn.qkv")])


def openai_names(state):
    """OpenAI's keys of a whole CLIP; its projections are multiplied from the right."""
    words = [("encoder.layers", "transformer.resblocks"), ("layer_norm", "ln_"), ("mlp.fc1", "mlp.c_fc")]
    words += [("mlp.fc2", "mlp.c_proj"), ("self_attn.out_proj", "attn.out_proj")]
    words += [("final_ln_", "ln_final"), ("pre_layrnorm", "ln_pre"), ("post_layernorm", "ln_post")]
    words += [("embeddings.position_embedding.weight", "positional_embedding"), ("embeddings.", "")]
    words += [("patch_embedding", "conv1"), ("vision_model.", "visual."), ("text_model.", "")]
    joined = [([f"self_attn.{x}_proj.{kind}" for x in "qkv"], f"attn.in_proj_{kind}") for kind in BOTH]
    found = renamed(state, words, joined)
    found["visual.proj"] = found.pop("visual_projection.weight").T.contiguous()
    found["text_projection"] = found.pop("text_projection.weight").T.contiguous()
    return found


BOTH = ("weight", "bias")


def timm_names(state):
    """timm's keys of SigLIP, under open_clip's prefix."""
    words = [("encoder.layers", "blocks"), ("self_attn.out_proj", "attn.proj"), ("layer_norm", "norm")]
    words += [("embeddings.patch_embedding", "patch_embed.proj"), ("post_layernorm", "norm")]
    words += [("embeddings.position_embedding.weight", "pos_embed"), ("head.probe", "attn_pool.latent")]
    words += [("head.attention.out_proj", "attn_pool.proj"), ("head.layernorm", "attn_pool.norm")]
    words += [("head.mlp", "attn_pool.mlp")]
    found = renamed(state, words, [([f"self_attn.{x}_proj" for x in "qkv"], "attn.qkv")])
    for kind in BOTH:
        q, k, v = found.pop(f"head.attention.in_proj_{kind}").chunk(3)
        found |= {f"attn_pool.q.{kind}": q.contiguous(), f"attn_pool.kv.{kind}": torch.cat([k, v])}
    found["pos_embed"] = found["pos_embed"][None]
    return {f"visual.trunk.{name}": tensor for name, tensor in found.items()}


@pytest.mark.parametrize("name", [name for name in MAKE if name != "open_clip"])
def test_transformers_naming(modules, tmp_path, name):
    module, folder = modules(name)
    assert run("vit", "--src", folder, "--dst", tmp_path) == 0
    config = check(module, tmp_path)
    published = VITS[{"registers": "dinov2", "giant": "dinov2", "siglip full": "siglip"}.get(name, name)]
    assert (config.mean, config.std) == (published.mean, published.std)
    assert config.registers == (3 if name == "registers" else 0)
    seen = (20, 20) if name == "clip" else (20, 0) if "siglip" in name else (224, 256)
    assert (config.resolution, config.shortest_side) == seen


@pytest.mark.parametrize(
    ("name", "names"),
    [(name, facebook_names) for name in ("dino", "dinov2", "registers", "giant")]
    + [("clip", openai_names), ("siglip", timm_names)],
)
def test_original_naming(modules, tmp_path, name, names):
    """What is not in the file comes from the published network, but for the heads of so small a one."""
    module, folder = modules(name)
    save_file(names(load_file(folder / "model.safetensors")), tmp_path / "original.safetensors")
    (tmp_path / "ours.json").write_text(
        json.dumps(OURS | {"layer_norm_eps": 1e-12} if name == "dino" else OURS)
    )
    arguments = ["--src", tmp_path / "original.safetensors", "--config", tmp_path / "ours.json"]
    assert run("vit", *arguments, "--dst", tmp_path / "out") == 0
    check(module, tmp_path / "out")
    assert run("vit", "--src", folder, "--dst", tmp_path / "again") == 0
    assert read_config(tmp_path / "out" / "vit") == read_config(tmp_path / "again" / "vit")


@pytest.mark.parametrize("name", ["dinov2", "registers"])
def test_positions_are_resampled(modules, tmp_path, name):
    """Stored for 5 patches a side and seen with 3, as DINOv2's 37 with 16; antialiased with registers."""
    module, folder = modules(name)
    assert run("vit", "--src", folder, "--dst", tmp_path) == 0
    check(module, tmp_path, side=12)


def test_torch_files_are_read_without_running_them(modules, tmp_path, capsys):
    module, folder = modules("dinov2")
    state = facebook_names(load_file(folder / "model.safetensors"))
    torch.save(state, tmp_path / "dinov2.pth")
    (tmp_path / "config.json").write_text(json.dumps(OURS))
    assert run("vit", "--src", tmp_path / "dinov2.pth", "--dst", tmp_path / "out") == 0
    (tmp_path / "folder").mkdir()
    shutil.copy(tmp_path / "dinov2.pth", tmp_path / "folder/pytorch_model.bin")
    shutil.copy(tmp_path / "config.json", tmp_path / "folder")
    assert run("vit", "--src", tmp_path / "folder", "--dst", tmp_path / "from_folder") == 0
    for made in ("out", "from_folder"):
        check(module, tmp_path / made)
    for content in ({"teacher": state}, {"module": module}):
        torch.save(content, tmp_path / "whole.pth")
        assert run("vit", "--src", tmp_path / "whole.pth", "--dst", tmp_path / "other") == 2
        assert "whole.pth is not a torch file of named tensors" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("naming", ["transformers", "open_clip"])
def test_a_clip_compares_pictures_with_prompts(modules, tmp_path, naming):
    """Pictures and prompts to features, through transformers' processor and model there."""
    module, source = modules("clip" if naming == "transformers" else naming)
    if naming == "open_clip":
        state = openai_names(load_file(source / "model.safetensors"))
        save_file(state | {"context_length": torch.tensor(77)}, tmp_path / "open_clip.safetensors")
        source = tmp_path / "open_clip.safetensors"
        told = {**OURS, "max_positions": 77, "activation": "gelu"}
        (tmp_path / "config.json").write_text(json.dumps(told))
    assert run("vit", "--src", source, "--dst", tmp_path / "out") == 0
    assert run("clip", "--src", source, "--dst", tmp_path / "out", "--projection") == 0
    encoder = load_encoder(tmp_path / "out")
    picture = np.random.default_rng(0).integers(0, 256, (31, 45, 3), np.uint8)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 20}, crop_size={"height": 20, "width": 20})
    pixels = processor(Image.fromarray(picture), return_tensors="np")["pixel_values"].transpose(0, 2, 3, 1)
    with torch.no_grad():
        seen = picture_features(module, pixels)
        read = module.get_text_features(torch.from_numpy(clip_tokens(PROMPTS)).long()).pooler_output
    close(image_features(encoder, [picture]), seen / seen.norm(dim=-1, keepdim=True))
    close(text_features(encoder, PROMPTS), read / read.norm(dim=-1, keepdim=True))


def test_a_projected_text_tower_is_written_back_as_transformers_has_it(modules, tmp_path):
    module, folder = modules("clip")
    assert run("clip", "--src", folder, "--dst", tmp_path / "out", "--projection") == 0
    back = tmp_path / "back.safetensors"
    assert run("clip", "--src", tmp_path / "out", "--dst", back, "--projection") == 0
    whole = {name: tensor for name, tensor in module.state_dict().items() if name.startswith("text_")}
    found = load_file(back)
    assert found.keys() == whole.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def test_without_the_option_a_text_tower_has_no_projection(modules, tmp_path, capsys):
    assert run("clip", "--src", modules("clip")[1], "--dst", tmp_path) == 0
    assert read_config(tmp_path / "clip").projection == 0
    save_file({"token_embedding.weight": torch.ones(9, 64)} | WITHOUT, tmp_path / "bare.safetensors")
    assert run("clip", "--src", tmp_path / "bare.safetensors", "--dst", tmp_path / "a", "--projection") == 2
    assert "it lacks text_projection.weight" in capsys.readouterr().err


WITHOUT = {
    "positional_embedding": torch.ones(77, 64),
    "transformer.resblocks.0.mlp.c_fc.weight": torch.ones(256, 64),
}


@pytest.mark.parametrize(
    ("name", "naming"),
    [("dino", vit.ORIGINAL), ("dino", vit.TRANSFORMERS_VIT), ("dinov2", vit.ORIGINAL)]
    + [("dinov2", vit.TRANSFORMERS_DINOV2), ("clip", vit.OPENAI), ("clip", vit.TRANSFORMERS_CLIP)]
    + [("siglip", vit.ORIGINAL), ("siglip", vit.TRANSFORMERS_CLIP)],
)
def test_a_published_network_is_told_by_its_shapes_alone(name, naming):
    config = VITS[name]
    params = flatten_dict(abstract_params(config)[0])
    entries = mapping.expand(vit.MODEL, config, naming)
    assert {entry.target for entry in entries} == params.keys()
    shapes = mapping.source_shapes(entries, params)
    assert vit.MODEL.infer(shapes, naming, {}) == config
    changed = dataclasses.replace(config, resolution=256, shortest_side=288)
    assert vit.MODEL.infer(shapes, naming, vit.MODEL.hints(to_dict(changed))) == changed


def test_other_files_are_refused(modules, tmp_path, capsys):
    def message(tensors, record):
        save_file(tensors, tmp_path / "file.safetensors")
        (tmp_path / "config.json").write_text(json.dumps(record))
        assert run("vit", "--src", tmp_path / "file.safetensors", "--dst", tmp_path / "out") == 2
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    state = facebook_names(load_file(modules("dino")[1] / "model.safetensors"))
    assert "its width is 24, and the heads are known only for" in message(state, {})
    less = {name: tensor for name, tensor in state.items() if name != "blocks.1.norm2.bias"}
    assert "1 missing key (blocks.1.norm2.bias)" in message(less, OURS)
    assert "1 surplus key (head.weight)" in message(state | {"head.weight": torch.ones(3, 24)}, OURS)
    odd = state | {"pos_embed": torch.ones(1, 25, 24)}
    assert "positions for 24 patches, which is not a square number" in message(odd, OURS)
    assert "activation must be one of" in message(state, OURS | {"activation": "relu"})
    assert "it looks like a CLIP text encoder" in message(
        {"token_embedding.weight": torch.ones(9, 64)} | WITHOUT, {}
    )


def test_inspect_names_both_towers(modules, tmp_path, capsys):
    folder = modules("clip")[1]
    assert run("inspect", folder) == 0
    told = capsys.readouterr().out
    assert "a vision transformer in transformers' CLIP naming, keys under vision_model." in told
    assert "a CLIP text encoder in transformers naming" in told and "cannot be converted" not in told
    assert run("vit", "--src", folder, "--dst", tmp_path) == 0
    assert run("inspect", tmp_path) == 0
    assert "a vit of uno_jax" in capsys.readouterr().out
