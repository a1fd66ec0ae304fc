"""Live parity: random torch modules of diffusers and transformers, saved by them, converted by the command,
compared.

Both sides compute in float32, so they differ by rounding only: sums of some hundred terms in another order
leave about 1e-6 of the largest value. Tolerances are that value times the few layers in sequence.
"""

import dataclasses
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from tests.tiny_model import RANK, make_lora
from tests.tools.convert_weights.command import run
from tests.tools.convert_weights.golden import GOLDEN
from uno_jax.families.latents import pack
from uno_jax.families.lora import merge
from uno_jax.families.uno.config import UnoPE
from uno_jax.families.uno.lora import LoraInfo, block_indices
from uno_jax.families.uno.positions import position_ids
from uno_jax.families.uno.types import Conditioning
from uno_jax.families.uno.velocity import velocity
from uno_jax.networks.mmdit import MMDiT
from uno_jax.networks.mmdit_config import MMDiTConfig
from uno_jax.networks.registry import apply
from uno_jax.networks.vae import Autoencoder
from uno_jax.weights.checkpoint import restore_network, save_network
from uno_jax.weights.lora_files import save_tensors

WIDE = dict(
    patch_size=1,
    in_channels=64,
    num_layers=2,
    num_single_layers=2,
    attention_head_dim=32,
    num_attention_heads=2,
    joint_attention_dim=40,
    pooled_projection_dim=24,
    axes_dims_rope=(8, 12, 12),
)
CLIP_TEXT = dict(
    vocab_size=99,
    hidden_size=24,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=2,
    bos_token_id=97,
    eos_token_id=98,
)
TARGET, REFS, TEXT = (4, 6), [(3, 3), (2, 4)], 5


def close(ours, theirs, tolerance):
    ours, theirs = np.asarray(ours), theirs.detach().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def randomised(module):
    """Norms' scales start at 1 and some biases at 0, which would hide a wrong one."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) / 5)
    return module.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("parity")


@pytest.fixture(scope="module", params=[True, False], ids=["guidance", "schnell"])
def transformer(request, folder):
    """(diffusers' module, our config and parameters), from a sharded diffusers folder."""
    torch.manual_seed(1)
    module = randomised(FluxTransformer2DModel(**WIDE, guidance_embeds=request.param))
    source = folder / f"flux{request.param}"
    module.save_pretrained(source / "transformer", max_shard_size="500KB")
    assert len(list((source / "transformer").glob("*.safetensors"))) > 2
    assert run("flux", "--src", source, "--dst", source / "model") == 0
    return module, *restore_network(source / "model" / "mmdit")


@pytest.fixture(scope="module")
def inputs():
    """Latents of a target and two references, text, pooled text, time and guidance."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape, np.float32)

    latents = [normal(2, 2 * h, 2 * w, 16) for h, w in [TARGET, *REFS]]
    times, guidance = np.array([0.3, 0.85], np.float32), np.array([4.0, 1.0], np.float32)
    return latents, normal(2, TEXT, 40), normal(2, 24), times, guidance


def ours(config, variables, inputs):
    latents, txt, vec, times, guidance = inputs
    strength = guidance if config.guidance_embed else None
    conditioning = Conditioning(txt, vec, tuple(latents[1:]), strength, UnoPE())
    tokens = pack(latents[0])

    def forward(variables):
        return velocity(MMDiT(config), variables, tokens, TARGET, times, conditioning)

    return jax.jit(forward)(variables)


def theirs(module, inputs):
    """References are extra image tokens for diffusers; UnoPE is in the ids."""
    latents, txt, vec, times, guidance = map(
        lambda x: [torch.from_numpy(y) for y in x] if isinstance(x, list) else torch.from_numpy(x), inputs
    )
    packed = torch.cat([torch.from_numpy(np.array(pack(latent.numpy()))) for latent in latents], 1)
    ids = torch.from_numpy(position_ids(TEXT, TARGET, REFS, UnoPE()))
    with torch.no_grad():
        (sample,) = module(
            hidden_states=packed,
            encoder_hidden_states=txt,
            pooled_projections=vec,
            timestep=times,
            guidance=guidance if module.config.guidance_embeds else None,
            img_ids=ids[TEXT:],
            txt_ids=ids[:TEXT],
            return_dict=False,
        )
    return sample[:, : TARGET[0] * TARGET[1]]


# Of the time and guidance embeddings: an angle of 1000 t moves by 6e-5 with one unit in the last place of a
# frequency, and torch's exponential is off by one in three of 128.

MMDIT = 2e-5


def test_mmdit_with_references_equals_diffusers(transformer, inputs):
    module, config, params = transformer
    close(ours(config, {"params": params}, inputs), theirs(module, inputs), MMDIT)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["diffusers", "uno"])
@pytest.mark.parametrize("merged", [False, True], ids=["side path", "merged"])
def test_lora_files_mean_the_same_to_diffusers(transformer, inputs, tmp_path, format, merged):
    module, config, params = transformer
    lora = make_lora(config)
    save_tensors(tmp_path / "lora.safetensors", LoraInfo(config, RANK, UnoPE()), lora, format)
    state, alphas = FluxPipeline.lora_state_dict(tmp_path / "lora.safetensors", return_alphas=True)
    plain = theirs(module, inputs)
    FluxPipeline.load_lora_into_transformer(state, alphas, module, adapter_name="uno")
    try:
        if merged:
            module.fuse_lora()
        expected = theirs(module, inputs)
    finally:
        if merged:
            module.unfuse_lora()
        module.delete_adapters("uno")
    assert (expected - plain).abs().max() > 0.1 * plain.abs().max()
    variables = {"params": merge(params, lora)} if merged else {"params": params, "lora": lora}
    close(ours(config, variables, inputs), expected, MMDIT)


@pytest.mark.slow
def test_kohya_lora_means_the_same_to_diffusers(tmp_path):
    """diffusers reads kohya's linear1 at FLUX's full width only, so each pair is applied to a vector."""
    config = MMDiTConfig(depth=1, depth_single_blocks=1)
    lora, applied = make_lora(config), {}
    for format in ("kohya", "diffusers"):
        save_tensors(tmp_path / f"{format}.safetensors", LoraInfo(config, RANK, UnoPE()), lora, format)
        state = FluxPipeline.lora_state_dict(tmp_path / f"{format}.safetensors")
        downs = {name: down for name, down in state.items() if "lora_A" in name}
        applied[format] = {
            name: state[name.replace("lora_A", "lora_B")] @ down.sum(1) for name, down in downs.items()
        }
    assert not applied["kohya"].pop("transformer.single_transformer_blocks.0.proj_mlp.lora_A.weight").any()
    torch.testing.assert_close(applied["kohya"], applied["diffusers"])


def test_autoencoder_equals_diffusers(folder):
    torch.manual_seed(2)
    module = randomised(
        AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(32, 64, 64),
            layers_per_block=1,
            latent_channels=4,
            use_quant_conv=False,
            use_post_quant_conv=False,
            scaling_factor=0.3611,
            shift_factor=0.1159,
        )
    )
    module.save_pretrained(folder / "vae")
    assert run("vae", "--src", folder / "vae", "--dst", folder / "model") == 0
    config, params = restore_network(folder / "model" / "vae")
    assert (config.scale, config.shift, config.multipliers) == (0.3611, 0.1159, (1, 2, 2))
    image = np.random.default_rng(0).uniform(-1, 1, (2, 16, 24, 3)).astype(np.float32)
    variables = {"params": params}
    moments = jax.jit(lambda v, x: apply(config, v, x, method=Autoencoder.encode))(variables, image)
    with torch.no_grad():
        expected = module.encode(torch.from_numpy(image.transpose(0, 3, 1, 2))).latent_dist.parameters
        latent = expected[:, :4]
        picture = module.decode(latent).sample
    close(jnp.moveaxis(moments, -1, 1), expected, 1e-5)
    scaled = config.scale * (latent.numpy().transpose(0, 2, 3, 1) - config.shift)
    decoded = jax.jit(lambda v, x: apply(config, v, x, method=Autoencoder.decode))(variables, scaled)
    close(jnp.moveaxis(decoded, -1, 1), picture, 1e-5)


def test_t5_equals_transformers(folder):
    torch.manual_seed(3)
    numbers = dict(vocab_size=100, d_model=40, d_kv=8, d_ff=64, num_layers=2, num_heads=2)
    module = randomised(T5EncoderModel(T5Config(**numbers, feed_forward_proj="gated-gelu")))
    module.save_pretrained(folder / "t5", max_shard_size="20KB")
    assert run("t5", "--src", folder / "t5", "--dst", folder / "model") == 0
    config, params = restore_network(folder / "model" / "t5")
    tokens = np.random.default_rng(0).integers(0, 100, (2, 150))  # beyond the last relative distance, 128
    hidden = jax.jit(lambda v, x: apply(config, v, x))({"params": params}, tokens)
    with torch.no_grad():
        close(hidden, module(torch.from_numpy(tokens)).last_hidden_state, 1e-5)


def openai_names(state):
    """transformers' keys as OpenAI's, by hand: q, k and v in one in_proj, positions without .weight."""
    words = {"encoder.layers": "transformer.resblocks", "layer_norm1": "ln_1", "layer_norm2": "ln_2"}
    words |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "final_layer_norm": "ln_final"}
    words |= {"self_attn.out_proj": "attn.out_proj", "embeddings.token_embedding": "token_embedding"}
    words |= {"embeddings.position_embedding.weight": "positional_embedding"}
    renamed = {}
    for name, tensor in state.items():
        if "q_proj" in name:
            stem, kind = name.rsplit(".self_attn.q_proj.", 1)
            parts = [state[f"{stem}.self_attn.{x}_proj.{kind}"] for x in "qkv"]
            name, tensor = f"{stem}.attn.in_proj_{kind}", torch.cat(parts)
        elif "k_proj" in name or "v_proj" in name:
            continue
        for theirs, openai in words.items():
            name = name.replace(theirs, openai)
        renamed[name] = tensor.contiguous()
    return renamed


@pytest.mark.parametrize("naming", ["transformers", "full", "openai"])
def test_clip_equals_transformers(tmp_path, naming):
    torch.manual_seed(4)
    text = CLIPTextConfig(**CLIP_TEXT, hidden_act="gelu" if naming == "transformers" else "quick_gelu")
    module = text_module = randomised(CLIPTextModel(text))
    if naming == "full":
        sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
        module = randomised(
            CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=dict(**sizes, image_size=32)))
        )
        text_module = module.text_model
    source = tmp_path / "clip"
    module.save_pretrained(source)
    if naming == "openai":
        surplus = {"visual.conv1.weight": torch.zeros(2, 3), "logit_scale": torch.ones(())}
        save_file(openai_names(module.state_dict()) | surplus, source / "model.safetensors")
    assert run("clip", "--src", source, "--dst", tmp_path / "model") == 0
    config, params = restore_network(tmp_path / "model" / "clip")
    assert config.activation == text.hidden_act
    tokens = np.random.default_rng(0).integers(1, 97, (2, 77))
    tokens[0, 20:], tokens[1, 76] = 98, 98  # the end is found where it first comes
    pooled = jax.jit(lambda v, x: apply(config, v, x))({"params": params}, tokens)
    with torch.no_grad():
        close(pooled, text_module(torch.from_numpy(tokens)).pooler_output, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("transformer", [False], indirect=True, ids=["schnell"])
def test_verify_takes_other_shapes(transformer, inputs, tmp_path, capsys):
    """A golden folder without guidance, with LoRA on some blocks only, recorded by diffusers."""
    module, config, params = transformer
    subset = dataclasses.replace(RANK, double_idx=(1,), single_idx=(0,))
    lora = jax.tree.map(np.array, make_lora(config))
    for kind, chosen in block_indices(config, subset).items():
        for leaf in jax.tree.leaves(lora[kind]):
            leaf[[index for index in range(len(leaf)) if index not in chosen]] = 0
    save_network(tmp_path / "mmdit", config, params)
    assert run("flux", "--src", tmp_path, "--dst", tmp_path / "flux_base.safetensors") == 0
    save_tensors(tmp_path / "dit_lora.safetensors", LoraInfo(config, subset, UnoPE()), lora)
    shutil.copy(GOLDEN / "ae.safetensors", tmp_path)
    shutil.copy(GOLDEN / "config.json", tmp_path)
    state, alphas = FluxPipeline.lora_state_dict(tmp_path / "dit_lora.safetensors", return_alphas=True)
    FluxPipeline.load_lora_into_transformer(state, alphas, module, adapter_name="uno")
    expected = theirs(module, inputs).numpy()
    module.delete_adapters("uno")
    latents, txt, vec, times, _ = inputs
    names = ["img_latent", "ref_latent.0", "ref_latent.1"]
    arrays = {name: latent.transpose(0, 3, 1, 2) for name, latent in zip(names, latents, strict=True)}
    arrays |= {"txt": txt, "vec": vec, "timesteps": times, "out.ref2.d": expected}

    np.savez(tmp_path / "golden.npz", **arrays)
    assert run("verify", "--golden", tmp_path) == 0
    assert re.match(r"verify: 1 array, worst \d\.\de-0[5-9]$", capsys.readouterr().out.splitlines()[-1])
