"""Several LoRAs of any layers, each with a strength, against diffusers' set_adapters on one transformer."""

import dataclasses

import jax
import numpy as np
import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.numpy import load_file, save_file

from tests.tiny_model import TINY, write_lora, write_model
from tests.tools.convert_weights.command import run
from tests.tools.convert_weights.test_parity import WIDE, close, inputs, ours, randomised, theirs  # noqa: F401
from uno_jax.families.lora import merge
from uno_jax.families.uno.config import UnoPE
from uno_jax.weights.checkpoint import restore_network
from uno_jax.weights.load import load_model, read_model_config
from uno_jax.weights.loras import find_loras, read_loras

ATTENTION = ["attn.to_q", "attn.to_k", "attn.to_v", "attn.add_k_proj", "attn.to_out.0", "attn.to_add_out"]
REST = ["ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2", "proj_mlp", "proj_out"]
REST += ["norm.linear", "norm1.linear", "norm1_context.linear", "norm_out.linear", "x_embedder"]
REST += ["context_embedder", "timestep_embedder.linear_1", "guidance_embedder.linear_2"]
STRENGTHS = (0.8, -0.5)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """(diffusers' module with the adapters a and b, the folder of their files and of the converted model)."""
    folder = tmp_path_factory.mktemp("stack")
    torch.manual_seed(1)
    module = randomised(FluxTransformer2DModel(**WIDE, guidance_embeds=True))
    module.save_pretrained(folder / "transformer")
    assert run("flux", "--src", folder / "transformer", "--dst", folder / "model") == 0
    for name, rank, layers in (("a", 4, ATTENTION), ("b", 3, ATTENTION[:2] + REST)):
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=layers, init_lora_weights=False)
        module.add_adapter(config, adapter_name=name)
        state = get_peft_model_state_dict(module, adapter_name=name)
        FluxPipeline.save_lora_weights(folder, state, weight_name=f"{name}.safetensors")
    return module, folder


def combined(folder, *names):
    config = dataclasses.replace(TINY, mmdit=restore_network(folder / "model" / "mmdit")[0])
    return read_loras(find_loras([str(folder / name) for name in names], folder), config)


def test_stacks_and_strengths_equal_diffusers(stack, inputs):  # noqa: F811
    module, folder = stack
    module.set_adapters(["a", "b"], list(STRENGTHS))
    expected = theirs(module, inputs)
    module.disable_adapters()
    assert (expected - theirs(module, inputs)).abs().max() > 0.1 * expected.abs().max()
    config, params = restore_network(folder / "model" / "mmdit")
    names = [f"{name}.safetensors:{each}" for name, each in zip("ab", STRENGTHS, strict=True)]
    added = combined(folder, *names)
    assert added.unope is None and not added.notes and set(added.params) == {"mmdit"}
    close(ours(config, {"params": merge(params, added.params["mmdit"])}, inputs), expected, 1e-5)


def test_kohyas_names_mean_the_same(stack):
    """The same pairs under BFL's names with underscores: linear1 in one, the final shift before the scale."""
    _, folder = stack
    theirs = load_file(folder / "b.safetensors")
    ups = "transformer.norm_out.linear.lora_B.weight"
    kohya = {
        "lora_unet_final_layer_adaLN_modulation_1.lora_up.weight": np.concatenate(
            np.split(theirs[ups], 2)[::-1]
        ),
        "lora_unet_final_layer_adaLN_modulation_1.lora_down.weight": theirs[ups.replace("_B", "_A")],
    }
    for theirs_name, name in (("norm1.linear", "img_mod_lin"), ("ff_context.net.2", "txt_mlp_2")):
        for factor, own in (("A", "down"), ("B", "up")):
            tensor = theirs[f"transformer.transformer_blocks.1.{theirs_name}.lora_{factor}.weight"]
            kohya[f"lora_unet_double_blocks_1_{name}.lora_{own}.weight"] = tensor
    width, rng = TINY.mmdit.hidden_size, np.random.default_rng(0)
    down, up = (rng.standard_normal(shape, np.float32) for shape in ((2, width), (7 * width, 2)))
    linear1 = "lora_unet_single_blocks_0_linear1.lora_{}.weight"
    kohya |= {linear1.format("down"): down, linear1.format("up"): up}
    save_file(kohya, folder / "kohya.safetensors")
    found, expected = (combined(folder, f"{name}.safetensors").params["mmdit"] for name in ("kohya", "b"))

    def update(tree, block=None):
        pair = [tree[name] if block is None else tree[name][block] for name in ("down", "up")]
        return pair[0] @ pair[1]

    final = [update(tree["final_layer"]["modulation"]["lin"]) for tree in (found, expected)]
    np.testing.assert_array_equal(*final)
    for path in (("img", "mod", "lin"), ("txt", "mlp_out")):
        layers = [tree["double_blocks"][path[0]] for tree in (found, expected)]
        for name in path[1:]:
            layers = [layer[name] for layer in layers]
        np.testing.assert_array_equal(*(update(layer, 1) for layer in layers))
        assert not layers[0]["up"][0].any()
    whole = [update(found["single_blocks"][name], 0) for name in ("qkv", "mlp")]
    np.testing.assert_allclose(np.concatenate(whole, 1), (up @ down).T, atol=1e-5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A whole tiny model, its LoRA, and one of the text encoders and of a layer that no model has."""
    folder = tmp_path_factory.mktemp("tiny")
    write_model(folder / "model")
    write_lora(folder / "uno", UnoPE("h", 0.5))
    write_lora(folder / "other", UnoPE("d"))
    rng = np.random.default_rng(0)
    widths = {
        "lora_te1_text_model_encoder_layers_1_mlp_fc1": (TINY.clip.hidden_size, TINY.clip.intermediate_size),
        "lora_te3_encoder_block_0_layer_0_SelfAttention_q": (TINY.t5.d_model, 16),
        "lora_unet_double_blocks_0_img_attn_proj": (TINY.mmdit.hidden_size,) * 2,
        "lora_te1_text_projection": (TINY.clip.hidden_size,) * 2,
    }
    style = {}
    for name, (fan_in, fan_out) in widths.items():
        style[f"{name}.lora_down.weight"] = rng.standard_normal((2, fan_in), np.float32)
        style[f"{name}.lora_up.weight"] = rng.standard_normal((fan_out, 2), np.float32)
    save_file(style, folder / "style.safetensors")
    return folder


def test_text_encoders_are_changed_and_what_is_left_out_is_named(tiny):
    plain = load_model(tiny / "model", None)
    with pytest.warns(UserWarning, match="left out 1 layer that this model does not have: text_projection"):
        styled = load_model(tiny / "model", [str(tiny / "uno"), f"{tiny / 'style.safetensors'}:0.5"])
    assert styled.unope == UnoPE("h", 0.5)
    changes = {}
    for kind in ("mmdit", "clip", "t5"):
        pairs = zip(
            *(jax.tree.leaves_with_path(model.params[kind]) for model in (plain, styled)), strict=True
        )
        changes[kind] = {jax.tree_util.keystr(path): after - before for (path, before), (_, after) in pairs}
    moved = {
        kind: [name for name, change in each.items() if np.any(change)] for kind, each in changes.items()
    }
    assert moved["clip"] == ["['blocks']['fc1']['kernel']"] and moved["t5"] == ["['blocks']['q']['kernel']"]
    tensors = load_file(tiny / "style.safetensors")
    fc1 = "lora_te1_text_model_encoder_layers_1_mlp_fc1.lora_{}.weight"
    expected = 0.5 * (tensors[fc1.format("up")] @ tensors[fc1.format("down")]).T
    found = changes["clip"]["['blocks']['fc1']['kernel']"]
    np.testing.assert_allclose(found[1], expected, atol=1e-5)
    assert not np.any(found[0])


def test_strength_0_equals_without(tiny):
    with pytest.warns(UserWarning, match="left out"):
        none = load_model(tiny / "model", [f"{tiny / 'uno'}:0", f"{tiny / 'style.safetensors'}:-0.0"])
    plain = load_model(tiny / "model", "none")
    assert none.unope is plain.unope is None
    jax.tree.map(np.testing.assert_array_equal, none.params, plain.params)


def test_twice_at_half_strength_is_once(tiny):
    half = f"{tiny / 'uno'}:0.5"
    twice, once = (
        read_loras(find_loras(names, tiny), read_model_config(tiny / "model")).params["mmdit"]
        for names in ([half, half], [tiny / "uno"])
    )
    for tree in (twice, once):
        tree["update"] = (
            tree["double_blocks"]["img"]["qkv"]["down"] @ tree["double_blocks"]["img"]["qkv"]["up"]
        )
    np.testing.assert_allclose(twice["update"], once["update"], atol=1e-6)


def test_different_positions_are_refused(tiny):
    with pytest.raises(ValueError, match=r"uno was trained with UnoPE h, .*they cannot be used tog"):
        load_model(tiny / "model", [tiny / "uno", tiny / "other"])
    assert load_model(tiny / "model", [tiny / "uno", f"{tiny / 'other'}:0"]).unope == UnoPE("h", 0.5)


@pytest.mark.slow
def test_a_merged_model_is_the_model_with_its_loras(tiny, capsys):
    loras = [f"{tiny / 'uno'}:0.8", str(tiny / "style.safetensors")]
    sources = [word for lora in loras for word in ("--src", lora)]
    dst = tiny / "merged"
    assert run("export-lora", "--merge", tiny / "model", *sources, "--dst", dst) == 0
    told = capsys.readouterr().out
    assert "left out 1 layer" in told and f"wrote {dst}: sample it with --unope h --offset-scale" in told
    with pytest.warns(UserWarning, match="left out"):
        expected = load_model(tiny / "model", loras)
    found = load_model(dst)
    jax.tree.map(
        lambda *leaves: np.testing.assert_allclose(*leaves, atol=1e-5), found.params, expected.params
    )
    assert run("flux", "--src", dst, "--dst", tiny / "merged.safetensors") == 0
    for arguments, message in (
        (("--src", tiny / "uno"), "give one --src and its --format, or --merge MODEL"),
        ((*sources, "--format", "uno"), "give one --src and its --format"),
        (("--src", tiny / "uno", "--merge", tiny / "model", "--format", "uno"), "leave out --format"),
        (("--src", "none", "--merge", tiny / "model"), "there is no LoRA to merge"),
        (("--src", f"{tiny / 'uno'}:1e3", "--merge", tiny / "model"), "must be at most 100"),
    ):
        assert run("export-lora", *arguments, "--dst", tiny / "new") == 2
        assert message in capsys.readouterr().err
