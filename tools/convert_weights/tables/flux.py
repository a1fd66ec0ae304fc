"""The FLUX transformer's table: ours, the original file (black-forest-labs/flux), the diffusers folder.

UNO adapts only the qkv part of a single block's linear1, so ours keeps it as qkv and mlp. diffusers splits
qkv and stores the final modulation as (scale, shift).
"""

import dataclasses
from typing import Any

from uno_jax.families.uno.config import SamplingDefaults
from uno_jax.networks.mmdit_config import MMDiTConfig

from ..mapping import ConversionError, Model, Naming, Row, Shapes, Swapped, count_layers

ORIGINAL = Naming("original", "img_in.weight", scale="scale")
DIFFUSERS = Naming("diffusers", "x_embedder.weight")
# Rows of the single blocks: ours, original, diffusers.
SINGLE = (
    ("modulation.lin", "modulation.lin", "norm.linear"),
    ("qkv", "linear1", ("attn.to_q", "attn.to_k", "attn.to_v")),
    ("mlp", "linear1", "proj_mlp"),
    ("norm.query_norm", "norm.query_norm", "attn.norm_q"),
    ("norm.key_norm", "norm.key_norm", "attn.norm_k"),
    ("linear2", "linear2", "proj_out"),
)
FULL_SIZE_AXES = (16, 56, 56)  # rope axes of every released FLUX, whose heads have 128 channels


def _embedder(name: str, theirs: str) -> list[Row]:
    return [
        Row(f"{name}.in_layer", (f"{name}.in_layer", f"time_text_embed.{theirs}.linear_1")),
        Row(f"{name}.out_layer", (f"{name}.out_layer", f"time_text_embed.{theirs}.linear_2")),
    ]


def _stream(
    ours: str, mod: str, qkv: tuple[str, ...], norms: tuple[str, str], out: str, ff: str
) -> list[Row]:
    """One stream of the double blocks; the arguments after the first are diffusers' names."""
    names = (
        ("mod.lin", f"{ours}_mod.lin", mod),
        ("qkv", f"{ours}_attn.qkv", qkv),
        ("norm.query_norm", f"{ours}_attn.norm.query_norm", norms[0]),
        ("norm.key_norm", f"{ours}_attn.norm.key_norm", norms[1]),
        ("proj", f"{ours}_attn.proj", out),
        ("mlp_in", f"{ours}_mlp.0", f"{ff}.net.0.proj"),
        ("mlp_out", f"{ours}_mlp.2", f"{ff}.net.2"),
    )
    return [_block(f"double_blocks.{ours}", "transformer_blocks", *each) for each in names]


def _block(ours: str, theirs: str, target: str, original: str, diffusers: str | tuple[str, ...]) -> Row:
    kind = ours.split(".")[0]
    stems = (diffusers,) if isinstance(diffusers, str) else diffusers
    named = tuple(f"{theirs}.{{}}.{stem}" for stem in stems)
    return Row(f"{ours}.{target}", (f"{kind}.{{}}.{original}", named if len(named) > 1 else named[0]))


DEFAULTS = tuple(field.name for field in dataclasses.fields(SamplingDefaults))  # hints may hold them too


def rows(config: MMDiTConfig) -> list[Row]:
    """Returns the table."""
    return [
        Row("img_in", ("img_in", "x_embedder")),
        Row("txt_in", ("txt_in", "context_embedder")),
        *_embedder("time_in", "timestep_embedder"),
        *(_embedder("guidance_in", "guidance_embedder") if config.guidance_embed else []),
        *_embedder("vector_in", "text_embedder"),
        *_stream(
            "img",
            "norm1.linear",
            ("attn.to_q", "attn.to_k", "attn.to_v"),
            ("attn.norm_q", "attn.norm_k"),
            "attn.to_out.0",
            "ff",
        ),
        *_stream(
            "txt",
            "norm1_context.linear",
            ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
            ("attn.norm_added_q", "attn.norm_added_k"),
            "attn.to_add_out",
            "ff_context",
        ),
        *(_block("single_blocks", "single_transformer_blocks", *each) for each in SINGLE),
        Row("final_layer.modulation.lin", ("final_layer.adaLN_modulation.1", Swapped("norm_out.linear"))),
        Row("final_layer.linear", ("final_layer.linear", "proj_out")),
    ]


def infer(shapes: Shapes, naming: Naming, hints: dict[str, Any]) -> MMDiTConfig:
    """Infers the config from shapes; hints add rope axes, theta, resolution and guidance."""
    if naming == ORIGINAL:
        img, txt, vec, guidance = "img_in", "txt_in", "vector_in.in_layer", "guidance_in.in_layer"
        blocks, singles = "double_blocks", "single_blocks"
        norm, mlp = f"{blocks}.0.img_attn.norm.query_norm.scale", f"{blocks}.0.img_mlp.0.weight"
        qkv_bias = f"{blocks}.0.img_attn.qkv.bias"
    else:
        img, txt, vec = "x_embedder", "context_embedder", "time_text_embed.text_embedder.linear_1"
        guidance = "time_text_embed.guidance_embedder.linear_1"
        blocks, singles = "transformer_blocks", "single_transformer_blocks"
        norm, mlp = f"{blocks}.0.attn.norm_q.weight", f"{blocks}.0.ff.net.0.proj.weight"
        qkv_bias = f"{blocks}.0.attn.to_q.bias"
    hidden, in_channels = shapes[f"{img}.weight"]
    (head_dim,) = shapes[norm]
    found: dict[str, Any] = {
        "in_channels": in_channels,
        "vec_in_dim": shapes[f"{vec}.weight"][1],
        "context_in_dim": shapes[f"{txt}.weight"][1],
        "hidden_size": hidden,
        "mlp_ratio": shapes[mlp][0] / hidden,
        "num_heads": hidden // head_dim,
        "depth": count_layers(shapes, blocks),
        "depth_single_blocks": count_layers(shapes, singles),
        "qkv_bias": qkv_bias in shapes,
        "guidance_embed": f"{guidance}.weight" in shapes,
    }
    if "axes_dim" not in hints and head_dim != sum(FULL_SIZE_AXES):
        raise ConversionError(
            f"the heads have {head_dim} channels, and the rope axes are known only for 128 (16, 56, 56): "
            'give them in a JSON file, --config FILE with {"axes_dim": [a, b, c]}'
        )
    own = {name: value for name, value in hints.items() if name not in DEFAULTS}
    return MMDiTConfig(**{"axes_dim": FULL_SIZE_AXES, **own, **found})


def hints(record: dict[str, Any]) -> dict[str, Any]:
    """Returns what a config.json, diffusers' or ours, adds; empty if it belongs to another network."""
    if record.get("_class_name") == "FluxTransformer2DModel":
        return {"axes_dim": tuple(record.get("axes_dims_rope", FULL_SIZE_AXES))}
    return {name: _value(record[name]) for name in ("axes_dim", "theta", *DEFAULTS) if name in record}


def defaults(hints: dict[str, Any]) -> SamplingDefaults:
    """What sampling takes where a caller says nothing, as far as hints say."""
    return SamplingDefaults(**{name: hints[name] for name in DEFAULTS if name in hints})


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


MODEL = Model(
    kind="mmdit",
    title="FLUX transformer",
    folder="transformer",
    namings=(ORIGINAL, DIFFUSERS),
    prefixes=("model.diffusion_model.",),
    ignored="",
    rows=rows,
    infer=infer,
    hints=hints,
    defaults=defaults,
)
