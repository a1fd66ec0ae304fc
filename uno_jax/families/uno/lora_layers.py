"""The layers that LoRAs adapt, under each program's names: UNO's, and those of others."""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

Site = tuple[str, ...]
Names = tuple[str, ...]
LINEAR1: Site = ("single_blocks", "qkv")
MLP: Site = ("single_blocks", "mlp")
# diffusers has scale and shift, FLUX shift and scale.
FINAL_MODULATION: Site = ("final_layer", "modulation", "lin")

# The layers of UNO's sites in each naming; {} is the block's index. diffusers has separate q, k and v.
TABLE: dict[Site, dict[str, Names]] = {
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
# What other LoRAs adapt too. A name without {} is of a layer that is there once.
MORE: dict[Site, dict[str, Names]] = {
    **{
        ("double_blocks", stream, ours): {
            "diffusers": (f"transformer_blocks.{{}}.{ff}.net.{theirs}",),
            "bfl": (f"double_blocks.{{}}.{stream}_mlp.{number}",),
        }
        for stream, ff in (("img", "ff"), ("txt", "ff_context"))
        for ours, theirs, number in (("mlp_in", "0.proj", 0), ("mlp_out", "2", 2))
    },
    **{
        ("double_blocks", stream, "mod", "lin"): {
            "diffusers": (f"transformer_blocks.{{}}.{norm}.linear",),
            "bfl": (f"double_blocks.{{}}.{stream}_mod.lin",),
        }
        for stream, norm in (("img", "norm1"), ("txt", "norm1_context"))
    },
    MLP: {"diffusers": ("single_transformer_blocks.{}.proj_mlp",)},
    ("single_blocks", "modulation", "lin"): {
        "diffusers": ("single_transformer_blocks.{}.norm.linear",),
        "bfl": ("single_blocks.{}.modulation.lin",),
    },
    FINAL_MODULATION: {"diffusers": ("norm_out.linear",), "bfl": ("final_layer.adaLN_modulation.1",)},
    ("final_layer", "linear"): {"diffusers": ("proj_out",), "bfl": ("final_layer.linear",)},
    ("img_in",): {"diffusers": ("x_embedder",), "bfl": ("img_in",)},
    ("txt_in",): {"diffusers": ("context_embedder",), "bfl": ("txt_in",)},
    **{
        (ours, layer): {"diffusers": (f"time_text_embed.{theirs}.{linear}",), "bfl": (f"{ours}.{layer}",)}
        for ours, theirs in (
            ("time_in", "timestep_embedder"),
            ("guidance_in", "guidance_embedder"),
            ("vector_in", "text_embedder"),
        )
        for layer, linear in (("in_layer", "linear_1"), ("out_layer", "linear_2"))
    },
}
# The text encoders' sites begin with the network's name; their files are in transformers' naming.
TEXT: dict[Site, dict[str, Names]] = {
    **{
        ("clip", "blocks", name.split(".")[-1]): {
            "transformers": (f"text_model.encoder.layers.{{}}.{name}",),
            "bare": (f"encoder.layers.{{}}.{name}",),
        }
        for name in (*(f"self_attn.{x}_proj" for x in ("q", "k", "v", "out")), "mlp.fc1", "mlp.fc2")
    },
    **{
        ("t5", "blocks", name.split(".")[-1]): {"transformers": (f"encoder.block.{{}}.layer.{name}",)}
        for name in (
            *(f"0.SelfAttention.{x}" for x in "qkvo"),
            *(f"1.DenseReluDense.{x}" for x in ("wi_0", "wi_1", "wo")),
        )
    },
}


class Module(NamedTuple):
    """One of `parts` equal parts of a site's kernel in a block; `whole`: with the mlp's part, `swapped`: with
    the halves of its output exchanged.
    """

    site: Site
    block: int
    part: int = 0
    parts: int = 1
    whole: bool = False
    swapped: bool = False


def modules_of(table: Mapping[Site, Mapping[str, Names]], depths: Mapping[Site, int]) -> dict[str, Module]:
    """Every module of a table by its names, with dots and with underscores; `depths` is the number of blocks
    by site, and sites without are left out.
    """
    found = {}
    for site in (site for site in table if site in depths):
        for block, (naming, names) in itertools.product(range(depths[site]), table[site].items()):
            whole = naming == "bfl" and site == LINEAR1
            swapped = naming == "diffusers" and site == FINAL_MODULATION
            for part, name in enumerate(names):
                module = Module(site, block, part, len(names), whole, swapped)
                found[name.format(block)] = found[name.format(block).replace(".", "_")] = module
    return found
