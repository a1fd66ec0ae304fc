"""The tables of BAGEL and Scone: the mixture of transformers, and the eyes (a SigLIP) in the same file.

A source's config.json may hold the contents of BAGEL's llm_config.json and vit_config.json under these names;
what shapes do not show is read there.
"""

from dataclasses import fields, replace
from typing import Any

from uno_jax.families.scone.config import EYES as EYES_CONFIG
from uno_jax.families.scone.config import SconeDefaults
from uno_jax.networks.mot import MoTConfig
from uno_jax.networks.vit import ViTConfig

from ..mapping import ConversionError, Flattened, Model, Naming, Row, Shapes, count_layers
from .vit import NAMES_TRANSFORMERS_CLIP

LAYERS, VIT = "language_model.model.layers", "vision_model"
BAGEL = Naming("BAGEL", f"{LAYERS}.0.mlp_moe_gen.gate_proj.weight")
BAGEL_VIT = Naming("BAGEL", f"{VIT}.embeddings.patch_embedding.weight")
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")
NORMS = {"input_norm": "input_layernorm", "post_norm": "post_attention_layernorm"}
EXPERTS = {"und": "", "gen": "_moe_gen"}
# Field of ours -> where a config.json of BAGEL's, or of a recording, has it.
HINTS = {
    "rms_norm_eps": ("llm_config", "rms_norm_eps"),
    "rope_theta": ("llm_config", "rope_theta"),
    "max_positions": ("llm_config", "max_position_embeddings"),
    "latent_patch": ("latent_patch_size",),
    "latent_side": ("max_latent_size",),
    "vit_side": ("vit_max_num_patch_per_side",),
    "bos_id": ("special_tokens", "bos_token_id"),
    "eos_id": ("special_tokens", "eos_token_id"),
    "image_start_id": ("special_tokens", "start_of_image"),
    "image_end_id": ("special_tokens", "end_of_image"),
    "bridge_layer": ("semantic_mask", "early_layer_idx"),
    "bridge_threshold": ("semantic_mask", "threshold_original"),
}
DEFAULTS = tuple(field.name for field in fields(SconeDefaults))
OURS = (*HINTS, "bridge_masked", *DEFAULTS)


def rows(config: MoTConfig) -> list[Row]:
    """Returns the table."""
    model = "language_model.model"
    table = [
        Row("embed_tokens", (f"{model}.embed_tokens.weight",)),
        Row("lm_head", ("language_model.lm_head",)),
        Row("time_embedder.in_layer", ("time_embedder.mlp.0",)),
        Row("time_embedder.out_layer", ("time_embedder.mlp.2",)),
        *(Row(name, (name,)) for name in ("vae2llm", "llm2vae", "connector.fc1", "connector.fc2")),
    ]
    for expert, suffix in EXPERTS.items():
        ours, layer = f"blocks.{expert}", f"{LAYERS}.{{}}"
        table += [Row(f"norm_{expert}", (f"{model}.norm{suffix}",))]
        table += [Row(f"{ours}.{name}", (f"{layer}.{stem}{suffix}",)) for name, stem in NORMS.items()]
        table += [Row(f"{ours}.{name}", (f"{layer}.self_attn.{name}{suffix}",)) for name in PROJECTIONS]
        table += [
            Row(f"{ours}.mlp.{name}", (f"{layer}.mlp{suffix}.{name}",))
            for name in ("gate_proj", "up_proj", "down_proj")
        ]
    return table


def infer(shapes: Shapes, naming: Naming, hints: dict[str, Any]) -> MoTConfig:
    """Infers the config from shapes; hints add the rope's base, and may add others of OURS."""
    layer = f"{LAYERS}.0"
    (head_dim,) = shapes[f"{layer}.self_attn.q_norm.weight"]
    vocabulary, hidden = shapes["language_model.model.embed_tokens.weight"]
    patch = hints.get("latent_patch", MoTConfig.latent_patch)
    channels = shapes["vae2llm.weight"][1]
    if channels % patch**2:
        raise ConversionError(
            f"vae2llm takes {channels} numbers, not a multiple of the {patch**2} cells of a token"
        )
    found: dict[str, Any] = {
        "hidden_size": hidden,
        "intermediate_size": shapes[f"{layer}.mlp.gate_proj.weight"][0],
        "num_layers": count_layers(shapes, LAYERS),
        "num_heads": shapes[f"{layer}.self_attn.q_proj.weight"][0] // head_dim,
        "num_kv_heads": shapes[f"{layer}.self_attn.k_proj.weight"][0] // head_dim,
        "head_dim": head_dim,
        "vocab_size": vocabulary,
        "latent_channels": channels // patch**2,
        "vit_size": shapes["connector.fc1.weight"][1],
    }
    if hidden != MoTConfig.hidden_size and "rope_theta" not in hints:
        raise ConversionError(
            f"it has {hidden} channels, and the rope's base is known only for {MoTConfig.hidden_size}: it "
            "lacks its llm_config.json with rope_theta"
        )
    own = {name: value for name, value in hints.items() if name not in DEFAULTS}
    return MoTConfig(**own, **found)


def hints(record: dict[str, Any]) -> dict[str, Any]:
    """Returns what a config.json, BAGEL's or ours, adds; empty if it belongs to another network."""
    record = record.get("mot", record)
    if "bridge_layer" in record:
        found = {name: record[name] for name in OURS if name in record}
    else:
        found = {}
        for name, path in HINTS.items():
            value: Any = record
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None
            found |= {} if value is None else {name: value}
        mask = record.get("semantic_mask", {})
        if {"first_masked_layer", "last_masked_layer"} <= mask.keys():
            found["bridge_masked"] = (mask["first_masked_layer"], mask["last_masked_layer"])
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def defaults(hints: dict[str, Any]) -> SconeDefaults:
    """What sampling takes where a caller says nothing, as far as hints say."""
    return SconeDefaults(**{name: hints[name] for name in DEFAULTS if name in hints})


MODEL = Model(
    kind="mot",
    title="mixture of transformers (BAGEL, Scone)",
    folder="",
    namings=(BAGEL,),
    prefixes=("",),
    # Two tables that follow from their sizes; the eyes have a table of their own.
    ignored=r"(latent|vit)_pos_embed\.pos_embed|vit_model\..*",
    rows=rows,
    infer=infer,
    hints=hints,
    defaults=defaults,
)


def vit_rows(config: ViTConfig) -> list[Row]:
    """Returns the table of the eyes: transformers' names, but for the linear patch embedding."""
    stems = {part: f"{VIT}.{stem}" for part, stem in NAMES_TRANSFORMERS_CLIP.items()}
    return [
        Row(part, (Flattened(stem) if part == "patch_embedding.conv" else stem,))
        for part, stem in stems.items()
    ]


def vit_infer(shapes: Shapes, naming: Naming, hints: dict[str, Any]) -> ViTConfig:
    """Infers the config from shapes; hints add the heads, and may add the epsilon."""
    embedding = f"{VIT}.embeddings"
    hidden, *pixels = shapes[f"{embedding}.patch_embedding.weight"]
    positions = shapes[f"{embedding}.position_embedding.weight"][0]
    layers, grid = count_layers(shapes, f"{VIT}.encoder.layers"), round(positions**0.5)
    if grid**2 != positions:
        raise ConversionError(f"it has positions for {positions} patches, which is not a square number")
    patch = pixels[-1] if len(pixels) == 3 else round((pixels[0] / 3) ** 0.5)
    found = {
        "patch_size": patch,
        "hidden_size": hidden,
        "intermediate_size": shapes[f"{VIT}.encoder.layers.0.mlp.fc1.weight"][0],
        "num_layers": layers,
        "grid": grid,
        "resolution": grid * patch,
    }
    if hidden != EYES_CONFIG.hidden_size and "num_heads" not in hints:
        raise ConversionError(
            f"its ViT has {hidden} channels, and the heads are known only for {EYES_CONFIG.hidden_size}: it "
            "lacks its vit_config.json with num_attention_heads"
        )
    return replace(EYES_CONFIG, **hints, **found)


def vit_hints(record: dict[str, Any]) -> dict[str, Any]:
    """Returns what a config.json, BAGEL's or ours, adds."""
    record = record.get("vit", record)
    if record.get("pooling") == "none":
        return {name: record[name] for name in ("num_heads", "layer_norm_eps") if name in record}
    record = record.get("vit_config", record)
    names = {"num_attention_heads": "num_heads", "layer_norm_eps": "layer_norm_eps"}
    return {ours: record[theirs] for theirs, ours in names.items() if theirs in record}


EYES = Model(
    kind="vit",
    title="SigLIP of BAGEL",
    folder="",
    namings=(BAGEL_VIT,),
    prefixes=("vit_model.", ""),
    # The head is not used, nor is the last of SigLIP's own 27 layers.
    ignored=rf"{VIT}\.(head\..*|embeddings\.position_ids|encoder\.layers\.26\..*)",
    rows=vit_rows,
    infer=vit_infer,
    hints=vit_hints,
    written_prefix="vit_model.",
)
