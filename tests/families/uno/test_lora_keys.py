"""Keys of LoRA files: wrappers and names of other programs, mixed dtypes, and what is refused by name."""

import ml_dtypes
import numpy as np
import pytest

from tests.tiny_model import TINY
from uno_jax.families.uno.lora_keys import detect
from uno_jax.families.uno.lora_names import from_tensors
from uno_jax.support.errors import CheckpointError

MMDIT = TINY.mmdit
WIDTH, RANK = MMDIT.hidden_size, 3
RNG = np.random.default_rng(0)
DOWN, UP = (RNG.standard_normal(shape).astype(np.float32) for shape in ((RANK, WIDTH), (WIDTH, RANK)))
PROJ = ("double_blocks", "img", "proj")
LAYER = "transformer_blocks.1.attn.to_out.0"
BFL = "double_blocks.1.img_attn.proj"
FLAT = LAYER.replace(".", "_")
E4M3, BF16 = ml_dtypes.float8_e4m3fn, ml_dtypes.bfloat16


def update(params, site=PROJ, block=1):
    for name in site:
        params = params[name]
    down, up = (np.asarray(params[name][block], np.float64) for name in ("down", "up"))
    return (down @ up).T


def pair(layer, down="lora_A.weight", up="lora_B.weight"):
    return {f"{layer}.{down}": DOWN, f"{layer}.{up}": UP}


@pytest.mark.parametrize(
    ("tensors", "naming"),
    [
        (pair(LAYER), "diffusers"),
        (pair(f"transformer.{LAYER}"), "diffusers"),
        (pair(f"base_model.model.{LAYER}"), "diffusers"),
        (pair(f"transformer.base_model.model.{LAYER}"), "diffusers"),
        (pair(f"module._orig_mod.base_model.model.{LAYER}"), "diffusers"),
        (pair("transformer.transformer_blocks.1._orig_mod.attn.to_out.0"), "diffusers"),
        (pair(LAYER, "lora_A.default.weight", "lora_B.default.weight"), "diffusers"),
        (pair(f"transformer.{LAYER}", "lora.down.weight", "lora.up.weight"), "diffusers"),
        (pair(LAYER, "lora_down.weight", "lora_up.weight"), "diffusers"),
        (pair(LAYER, "lora_A", "lora_B"), "diffusers"),
        (pair(BFL), "bfl"),
        (pair(f"base_model.model.{BFL}"), "bfl"),
        (pair(f"diffusion_model.{BFL}", "lora_down.weight", "lora_up.weight"), "bfl"),
        (pair(f"model.diffusion_model.{BFL}"), "bfl"),
        (pair("double_blocks.1.processor.proj_lora1", "down.weight", "up.weight"), "uno"),
        (pair("module.double_blocks.1.processor.proj_lora1", "down.weight", "up.weight"), "uno"),
        (pair("diffusion_model.double_blocks.1.processor.proj_lora1", "down.weight", "up.weight"), "uno"),
        (pair(f"lora_transformer_{FLAT}", "lora_down.weight", "lora_up.weight"), "kohya"),
        (pair(f"lycoris_{FLAT}", "lora_down.weight", "lora_up.weight"), "kohya"),
        (pair("lora_unet_double_blocks_1_img_attn_proj", "lora_down.weight", "lora_up.weight"), "kohya"),
        (pair("lora_unet_double_blocks_1_img_attn_proj"), "kohya"),
    ],
)
def test_one_module_under_each_name(tensors, naming):
    config, params = from_tensors(MMDIT, tensors)
    assert (config.rank, config.double_idx, config.single_idx) == (RANK, (1,), ())
    np.testing.assert_array_equal(update(params), UP.astype(np.float64) @ DOWN.astype(np.float64))
    assert detect(tensors) == naming


@pytest.mark.parametrize(
    "layer",
    ["diffusion_model.single_blocks.0.linear1", "single_blocks.0.linear1_qkv", "single_blocks.0.linear1"],
)
def test_linear1_with_and_without_the_part_of_the_mlp(layer):
    whole = not layer.endswith("qkv") and layer.startswith("diff")
    rows = np.concatenate([UP] * 3 + ([np.zeros((MMDIT.mlp_size, RANK), np.float32)] if whole else []))
    _, params = from_tensors(MMDIT, pair(layer) | {f"{layer}.lora_B.weight": rows})
    expected = np.concatenate([UP.astype(np.float64) @ DOWN] * 3)
    np.testing.assert_array_equal(update(params, ("single_blocks", "qkv"), 0), expected)


@pytest.mark.parametrize("alpha", [1.5, [1.5], [[1.5]]])
@pytest.mark.parametrize("kind", [np.float32, np.float16, BF16, E4M3])
@pytest.mark.parametrize("kinds", [(E4M3, E4M3), (E4M3, BF16), (BF16, np.float32), (np.float16, BF16)])
def test_a_scale_is_exact_whatever_the_dtypes(alpha, kind, kinds):
    down, up = (array.astype(dtype) for array, dtype in zip((DOWN, UP), kinds, strict=True))
    tensors = {f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up}
    _, params = from_tensors(MMDIT, tensors | {f"{LAYER}.alpha": np.array(alpha, kind)})
    wanted = up.astype(np.float32) * np.float32(1.5 / RANK)
    np.testing.assert_array_equal(update(params), wanted.astype(np.float64) @ down.astype(np.float64))


def test_fp8_without_a_scale_is_widened_to_bfloat16():
    _, params = from_tensors(MMDIT, {key: array.astype(E4M3) for key, array in pair(LAYER).items()})
    assert params["double_blocks"]["img"]["proj"]["up"].dtype == BF16


def changed(**arrays):
    """The pair with other arrays for A, B or alpha."""
    names = {"A": "lora_A.weight", "B": "lora_B.weight", "alpha": "alpha"}
    return pair(LAYER) | {f"{LAYER}.{names[name]}": np.asarray(array) for name, array in arrays.items()}


NAN = np.where(np.arange(RANK * WIDTH).reshape(RANK, WIDTH) == 7, np.nan, DOWN)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (pair(f"foo.{LAYER}"), r"the prefix foo\. of its key foo\.transformer_blocks.* is not known"),
        (pair(f"transformer.foo.{LAYER}"), r"the prefix foo\. of its key transformer\.foo"),
        (pair(f"lora_flux_{FLAT}", "lora_down.weight", "lora_up.weight"), "the prefix lora_flux_ of its key"),
        (pair(LAYER, "lora_X.weight", "lora_Y.weight"), r"the suffix lora_X\.weight of its key"),
        (pair(LAYER) | pair(LAYER, "lora_X.weight"), r"the suffix lora_X\.weight of its key"),
        (changed() | {f"{LAYER}.lora_B.bias": UP[:, 0]}, r"the suffix lora_B\.bias of its key"),
        (changed() | {f"{LAYER}.dora_scale": UP[:, :1]}, r"DoRA \(transformer_blocks.*dora_scale\)"),
        (changed() | {f"{LAYER}.lora_magnitude_vector": UP[:, 0]}, "with DoRA"),
        (pair(f"lycoris_{FLAT}", "lokr_w1", "lokr_w2"), "with LoKr"),
        (pair(LAYER) | pair(LAYER, "lora_A.a.weight", "lora_B.b.weight"), r"several adapters \(a, b\)"),
        (pair(LAYER) | pair(f"module.{LAYER}"), "are the same part of one layer"),
        (pair("transformer_blocks.0.attn.to_q") | pair("double_blocks.0.img_attn.qkv"), "under two names"),
        (pair(LAYER.replace("1", "9")), r"2 keys not of a layer that UNO adapts.*blocks\.9"),
        (pair("transformer.x_embedder"), "not a LoRA in UNO's"),
        ({f"{LAYER}.alpha": np.array(1.0)}, "not a LoRA|alpha of a layer whose factors are missing"),
        (changed(A=np.zeros((0, WIDTH), np.float32)), r"lora_A\.weight has the shape \(0, \d+\), expected a"),
        (changed(B=UP[:, 0]), r"lora_B\.weight has the shape \(\d+,\), expected a matrix"),
        (changed(A=np.float32(1)), r"lora_A\.weight has the shape \(\), expected a matrix"),
        (changed(A=np.ones(DOWN.shape, np.int8)), r"lora_A\.weight is of int8"),
        (changed(A=NAN), r"lora_A\.weight holds NaN or infinite"),
        (changed(alpha=np.nan), "alpha is nan, expected a finite number"),
        (changed(alpha=0.0), r"alpha is 0\.0, expected a finite number other than 0"),
        (changed(alpha=[1.0, 2.0]), r"alpha has the shape \(2,\), expected one number"),
    ],
)
def test_refusals_name_what_is_wrong(tensors, message):
    with pytest.raises(CheckpointError, match=message):
        from_tensors(MMDIT, tensors)
