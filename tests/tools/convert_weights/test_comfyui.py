"""What is exported for ComfyUI, by ComfyUI's published rules (comfy/lora_convert.py, comfy/lora.py and
comfy/ldm/flux/model.py): the program itself is not needed.
"""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tools.convert_weights import mapping
from tools.convert_weights.tables import flux
from uno_jax.families.flow import shift_mu
from uno_jax.families.uno.config import LoraConfig, UnoPE
from uno_jax.families.uno.lora import LoraInfo, abstract_lora
from uno_jax.families.uno.lora_names import to_tensors
from uno_jax.families.uno.positions import grid_ids, reference_offsets
from uno_jax.networks.mmdit_config import MMDiTConfig
from uno_jax.networks.registry import abstract_params

FULL_SIZE = MMDiTConfig()
MARKS = (
    "single_blocks.37.processor.qkv_lora.up.weight",
    "double_blocks.18.processor.qkv_lora2.up.weight",
)
# Parts of UNO's names -> ComfyUI's, in the order in which it replaces them.
PARTS = {
    ".down.weight": ".lora_down.weight",
    ".up.weight": ".lora_up.weight",
    ".qkv_lora2.": ".txt_attn.qkv.",
    ".qkv_lora1.": ".img_attn.qkv.",
    ".proj_lora1.": ".img_attn.proj.",
    ".proj_lora2.": ".txt_attn.proj.",
    ".qkv_lora.": ".linear1_qkv.",
    ".proj_lora.": ".linear2.",
    ".processor.": ".",
}
WORKFLOW = json.loads((Path(__file__).parents[3] / "docs/comfyui_uno.json").read_text())


def comfyui_name(key):
    for ours, theirs in PARTS.items():
        key = key.replace(ours, theirs)
    return key


def base_shapes():
    """The modules that ComfyUI offers to LoRAs, with the (out, in) of what they adapt."""
    entries = mapping.expand(flux.MODEL, FULL_SIZE, flux.ORIGINAL)
    shapes = mapping.source_shapes(entries, flatten_dict(abstract_params(FULL_SIZE)[0]))
    found = {key.removesuffix(".weight"): shape for key, shape in shapes.items() if key.endswith(".weight")}
    hidden = FULL_SIZE.hidden_size
    qkv = {f"{name}_qkv": (3 * hidden, shape[1]) for name, shape in found.items() if ".linear1" in name}
    return found | qkv


def test_every_tensor_of_a_full_size_export_adapts_a_weight_of_its_shape():
    lora = LoraConfig(rank=1)
    shapes, _ = abstract_lora(FULL_SIZE, lora)
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    tensors = to_tensors(LoraInfo(FULL_SIZE, lora, UnoPE()), params, "uno")
    assert len(tensors) == 304
    assert all(mark in tensors for mark in MARKS)
    base = base_shapes()
    names = {comfyui_name(key): tensor.shape for key, tensor in tensors.items()}
    for name, shape in names.items():
        module, _, factor = name.removesuffix(".weight").rpartition(".")
        fan_out, fan_in = base[module]
        assert shape == {"lora_down": (1, fan_in), "lora_up": (fan_out, 1)}[factor], name
    assert len(names) == 304


@pytest.mark.parametrize("target", [(32, 32), (40, 20)])
def test_positions_are_those_of_its_method(target):
    references, patch = [(20, 12), (8, 20), (20, 20)], 2
    height = width = 0  # of the latents so far, in cells of 8 pixels
    ours = reference_offsets(target, references, UnoPE())
    for (rows, columns), offset in zip(references, ours, strict=True):
        theirs = [
            (side * patch + so_far) // patch for side, so_far in zip(target, (height, width), strict=True)
        ]
        assert list(offset) == theirs
        assert grid_ids((rows, columns), offset)[-1].tolist() == [
            0,
            theirs[0] + rows - 1,
            theirs[1] + columns - 1,
        ]
        height, width = height + rows * patch, width + columns * patch


def test_the_workflow_is_whole_and_has_unos_settings():
    for node in WORKFLOW.values():
        links = [value for value in node["inputs"].values() if isinstance(value, list)]
        assert all(source in WORKFLOW for source, _ in links)
    kinds = {node["class_type"]: node["inputs"] for node in WORKFLOW.values()}
    side = kinds["EmptySD3LatentImage"]["width"]
    shift = kinds["ModelSamplingFlux"]["base_shift"]
    assert shift == kinds["ModelSamplingFlux"]["max_shift"] == round(shift_mu((side // 8) ** 2 // 256), 3)
    assert kinds["FluxGuidance"]["guidance"] == 4
    assert kinds["KSampler"]["steps"] == 25 and kinds["KSampler"]["cfg"] == 1
    assert kinds["FluxKontextMultiReferenceLatentMethod"]["reference_latents_method"] == "uxo/uno"
