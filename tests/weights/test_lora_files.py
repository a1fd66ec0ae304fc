"""LoRA in three namings: there and back, what files by other programs may hold, what is refused.

That diffusers reads these files the same is tested in tests/tools/convert_weights/test_parity.py.
"""

import dataclasses
import json
from functools import partial

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file, save_file

from tests.tiny_model import RANK, TINY, make_lora, write_lora
from tests.tools.convert_weights.golden import GOLDEN
from uno_jax.families.uno.config import LoraConfig, UnoPE
from uno_jax.families.uno.lora import SITES, LoraInfo, block_indices
from uno_jax.families.uno.lora_keys import detect
from uno_jax.families.uno.lora_names import SUFFIXES, from_tensors, to_tensors
from uno_jax.support.errors import CheckpointError
from uno_jax.support.trees import subtree
from uno_jax.weights.lora_files import load_lora, load_tensors, save_tensors

MMDIT = TINY.mmdit
INFO = LoraInfo(MMDIT, RANK, UnoPE())
FORMATS = list(SUFFIXES)
TO_Q = "transformer.transformer_blocks.0.attn.to_q"


def equal(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def subset_lora(subset):
    """Blocks outside the subset are zero, as `init_lora` makes them and training keeps them."""
    lora = jax.tree.map(np.array, make_lora())
    for kind, chosen in block_indices(MMDIT, subset).items():
        for leaf in jax.tree.leaves(lora[kind]):
            leaf[[index for index in range(len(leaf)) if index not in chosen]] = 0
    return lora


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("blocks", [(None, None), ((1,), (0,)), ((), None)], ids=["all", "some", "single"])
def test_there_and_back(tmp_path, format, blocks):
    config = LoraConfig(RANK.rank, *blocks)
    lora, file = subset_lora(config), tmp_path / "lora.safetensors"
    save_tensors(file, LoraInfo(MMDIT, config, UnoPE("h", 0.5)), lora, format)
    found, unope, params = load_tensors(file, MMDIT)
    assert (found, unope, detect(load_file(file))) == (config, UnoPE("h", 0.5), format)
    equal(params, lora)


def test_the_references_file_is_reproduced():
    tensors = load_file(GOLDEN / "dit_lora.safetensors")
    config, params = from_tensors(MMDIT, tensors)
    equal(to_tensors(LoraInfo(MMDIT, config, UnoPE()), params, "uno"), tensors)


def test_a_directory_or_a_file_is_loaded(tmp_path):
    write_lora(tmp_path / "lora", UnoPE("w", 2.0))
    config, unope, params = load_lora(tmp_path / "lora", MMDIT)
    save_tensors(tmp_path / "lora.safetensors", LoraInfo(MMDIT, config, unope), params)
    again = load_lora(tmp_path / "lora.safetensors", MMDIT)
    assert again[:2] == (config, unope) == (RANK, UnoPE("w", 2.0))
    equal(again[2], params)
    save_file(load_file(tmp_path / "lora.safetensors"), tmp_path / "plain.safetensors")
    assert load_lora(tmp_path / "plain.safetensors", MMDIT)[1] == UnoPE()


def update(params):
    """The change of each adapted kernel."""
    return unflatten_dict(
        {site: subtree(params, site)["down"] @ subtree(params, site)["up"] for site in SITES}
    )


def test_q_k_and_v_may_have_down_matrices_of_their_own():
    tensors, rng = to_tensors(INFO, make_lora(), "diffusers"), np.random.default_rng(0)
    del tensors[f"{TO_Q}.lora_A.weight"], tensors[f"{TO_Q}.lora_B.weight"]
    down = tensors[f"{TO_Q[:-1]}k.lora_A.weight"] = rng.standard_normal((RANK.rank, 64), np.float32)
    config, params = from_tensors(MMDIT, tensors)
    assert config == dataclasses.replace(RANK, rank=2 * RANK.rank)
    before, after = update(make_lora()), update(params)
    qkv, expected = (tree["double_blocks"]["img"]["qkv"][0] for tree in (after, before))
    up = tensors[f"{TO_Q[:-1]}k.lora_B.weight"]
    np.testing.assert_array_equal(qkv[:, :64], 0)
    np.testing.assert_allclose(qkv[:, 64:128], (up @ down).T, atol=1e-6)
    np.testing.assert_allclose(qkv[:, 128:], expected[:, 128:], atol=1e-6)
    # The rank is doubled with zeros, which may change the order of a product's sums.
    close = partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-8)
    jax.tree.map(close, after["single_blocks"], before["single_blocks"])


def test_alpha_is_a_scale(tmp_path):
    halved = jax.tree.map(lambda leaf: leaf / 2, update(make_lora()))
    kohya = to_tensors(INFO, make_lora(), "kohya")
    alphas = {name: np.array(RANK.rank / 2, np.float32) for name in kohya if name.endswith("alpha")}
    equal(update(from_tensors(MMDIT, kohya | alphas)[1]), halved)
    about = {"lora_adapter_metadata": json.dumps({"transformer.lora_alpha": 2, "transformer.r": 4})}
    save_file(to_tensors(INFO, make_lora(), "diffusers"), tmp_path / "peft.safetensors", about)
    equal(update(load_tensors(tmp_path / "peft.safetensors", MMDIT)[2]), halved)


def test_a_folder_of_diffusers_is_loaded(tmp_path):
    save_file(to_tensors(INFO, make_lora(), "diffusers"), tmp_path / "pytorch_lora_weights.safetensors")
    equal(update(load_lora(tmp_path, MMDIT)[2]), update(make_lora()))


def refusals():
    diffusers, kohya = (to_tensors(INFO, make_lora(), format) for format in ("diffusers", "kohya"))
    linear1 = "lora_unet_single_blocks_0_linear1.lora_up.weight"
    half = {name: tensor for name, tensor in diffusers.items() if name != f"{TO_Q}.lora_B.weight"}
    wide = {f"{TO_Q}.lora_A.weight": np.ones((4, 65), np.float32)}
    deep = {f"{TO_Q.replace('0', '7')}.lora_A.weight": np.ones((4, 64), np.float32)}
    more = {"transformer.transformer_blocks.0.ff.net.2.lora_A.weight": np.ones((4, 256), np.float32)}
    yield half, "to_q has only one of lora_A.weight and lora_B.weight"
    yield diffusers | wide, r"down \(4, 65\) and up \(64, 4\), expected \(rank, 64\) and \(64, rank\)"
    yield diffusers | deep, "1 key not of a layer .* 2 double and 2 single blocks: .*blocks.7"
    yield diffusers | more, "1 key not of a layer that UNO adapts.*ff.net.2"
    yield kohya | {linear1: np.ones_like(kohya[linear1])}, "adapts the mlp of a single block too"
    yield {"weight": np.ones(1)}, "not a LoRA in UNO's, diffusers', BFL's or kohya's naming"


@pytest.mark.parametrize(("tensors", "message"), list(refusals()))
def test_refusals(tensors, message):
    with pytest.raises(CheckpointError, match=message):
        from_tensors(MMDIT, tensors)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        # The second message is beartype's, when it checks types before the config checks its values.
        ({"uno_jax.unope": '{"variant": "x"}'}, "variant must be one of|parameter 'variant'"),
        ({"uno_jax.unope": "3"}, "peft.safetensors: "),
        ({"lora_adapter_metadata": '{"transformer.use_dora": true}'}, "asks for use_dora"),
    ],
)
def test_metadata_that_cannot_be_honoured(tmp_path, metadata, message):
    save_file(to_tensors(INFO, make_lora(), "diffusers"), tmp_path / "peft.safetensors", metadata)
    with pytest.raises(CheckpointError, match=message):
        load_tensors(tmp_path / "peft.safetensors", MMDIT)
