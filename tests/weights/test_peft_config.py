"""PEFT's adapter_config.json and diffusers' metadata: the scale of each layer, and what is refused."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.tiny_model import TINY
from uno_jax.support.errors import CheckpointError
from uno_jax.weights.lora_files import load_lora

MMDIT = TINY.mmdit
LAYER = "base_model.model.transformer_blocks.0.attn.to_out.0"
WIDTH, RANK = MMDIT.hidden_size, 4


@pytest.fixture
def scale_of(tmp_path):
    """The scale with which a folder of PEFT's, with this description, is loaded."""

    def scale_of(about):
        down, up = np.eye(RANK, WIDTH, dtype=np.float32), np.eye(WIDTH, RANK, dtype=np.float32)
        tensors = {f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up}
        save_file(tensors, tmp_path / "adapter_model.safetensors")
        (tmp_path / "adapter_config.json").write_text(about if isinstance(about, str) else json.dumps(about))
        loaded = [load_lora(place, MMDIT)[2] for place in (tmp_path, tmp_path / "adapter_model.safetensors")]
        ups = [params["double_blocks"]["img"]["proj"]["up"][0] for params in loaded]
        np.testing.assert_array_equal(*ups)
        return ups[0][0, 0]

    return scale_of


@pytest.mark.parametrize(
    ("about", "scale"),
    [
        ({"peft_type": "LORA", "r": 4, "lora_alpha": 8}, 2.0),
        ({"r": 4, "lora_alpha": 8, "use_rslora": True}, 4.0),
        ({"r": 4, "lora_alpha": 2.5, "use_dora": False, "alpha_pattern": {}}, 0.625),
        ({"r": 4, "lora_alpha": 8, "alpha_pattern": {"attn.to_out.0": 16}}, 4.0),
        ({"r": 4, "lora_alpha": 8, "alpha_pattern": {"ut.0": 16}}, 2.0),
        ({"r": 8, "lora_alpha": 8, "rank_pattern": {"to_out.0": 4}}, 2.0),
        ({"r": 4, "lora_alpha": None}, 1.0),
        ({}, 1.0),
    ],
)
def test_scales(scale_of, about, scale):
    assert scale_of(about) == scale


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"use_dora": True}, "adapter_config.json asks for use_dora, which is not supported"),
        ({"lora_bias": True}, "asks for lora_bias"),
        ({"init_lora_weights": "pissa_niter_16"}, "asks for init_lora_weights pissa_niter_16"),
        ({"peft_type": "LOHA"}, "describes a LOHA"),
        ({"lora_alpha": "8"}, "lora_alpha is '8', expected a finite number"),
        ({"lora_alpha": 10**400}, "lora_alpha is 10{20,}, expected a finite number"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
        ({"lora_alpha": 8, "r": 16}, "adapter_config.json says rank 16 for .*, which has rank 4"),
        ({"alpha_pattern": {"to_.*": 3}}, "alpha_pattern is not supported unless"),
        ({"alpha_pattern": [3]}, "alpha_pattern is not supported unless"),
        ("[" * 100_000, "adapter_config.json is not readable JSON"),
        ("[3]", r"adapter_config.json must hold an object, got \[3\]"),
    ],
)
def test_refusals(scale_of, about, message):
    with pytest.raises(CheckpointError, match=message):
        scale_of(about)


def test_without_its_description_the_scale_is_not_known(scale_of, tmp_path):
    scale_of({})
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(FileNotFoundError, match="which gives the scale of adapter_model.safetensors"):
        load_lora(tmp_path, MMDIT)
