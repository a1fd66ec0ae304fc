"""The layers that UNO adapts, under each program's names."""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

Site = tuple[str, ...]
LINEAR1: Site = ("single_blocks", "qkv")

# The layers of a site in each naming; {} is the block's index. diffusers has separate q, k and v.
TABLE: dict[Site, dict[str, tuple[str, ...]]] = {
    ("double_blocks", "img", "qkv"): {
        "uno": ("double_blocks.{}.processor.qkv_lora1",),
        "diffusers": tuple(f"transformer_blocks.{{}}.attn.to_{x}" for x in "qkv"),
        "bfl": ("double_blocks.{}.img_attn.qkv",),
        "fused": ("transformer_blocks.{}.attn.to_qkv",),
    },
    ("double_blocks", "img", "proj"): {
        "uno": ("double_blocks.{}.processor.proj_lora1",),
        "diffusers": ("transformer_blocks.{}.attn.to_out.0",),
        "bfl": ("double_blocks.{}.img_attn.proj",),
    },
    ("double_blocks", "txt", "qkv"): {
        "uno": ("double_blocks.{}.processor.qkv_lora2",),
        "diffusers": tuple(f"transformer_blocks.{{}}.attn.add_{x}_proj" for x in "qkv"),
        "bfl": ("double_blocks.{}.txt_attn.qkv",),
        "fused": ("transformer_blocks.{}.attn.to_added_qkv",),
    },
    ("double_blocks", "txt", "proj"): {
        "uno": ("double_blocks.{}.processor.proj_lora2",),
        "diffusers": ("transformer_blocks.{}.attn.to_add_out",),
        "bfl": ("double_blocks.{}.txt_attn.proj",),
    },
    LINEAR1: {
        "uno": ("single_blocks.{}.processor.qkv_lora",),
        "diffusers": tuple(f"single_transformer_blocks.{{}}.attn.to_{x}" for x in "qkv"),
        "bfl": ("single_blocks.{}.linear1",),  # qkv and mlp together; UNO does not adapt the mlp
        "comfy": ("single_blocks.{}.linear1_qkv",),  # its name for UNO's part of linear1
        "fused": ("single_transformer_blocks.{}.attn.to_qkv",),
    },
    ("single_blocks", "linear2"): {
        "uno": ("single_blocks.{}.processor.proj_lora",),
        "diffusers": ("single_transformer_blocks.{}.proj_out",),
        "bfl": ("single_blocks.{}.linear2",),
    },
}


class Module(NamedTuple):
    """One of `parts` equal parts of a site's kernel in a block; `whole`: with the mlp's part."""

    site: Site
    block: int
    part: int = 0
    parts: int = 1
    whole: bool = False


def modules_of(depths: Mapping[str, int]) -> dict[str, Module]:
    """Every module by its names, with dots and with underscores."""
    found = {}
    for site, namings in TABLE.items():
        for block, (naming, names) in itertools.product(range(depths[site[0]]), namings.items()):
            whole = naming == "bfl" and site == LINEAR1
            for part, name in enumerate(names):
                module = Module(site, block, part, len(names), whole)
                found[name.format(block)] = found[name.format(block).replace(".", "_")] = module
    return found
