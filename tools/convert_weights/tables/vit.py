"""The vision transformers' tables: the original namings (DINO, DINOv2 and timm's SigLIP; OpenAI's CLIP and
open_clip) and transformers' (ViT, also for DINO; DINOv2; CLIP and SigLIP).

The parts that are present identify the network. In a whole CLIP or SigLIP the text tower is ignored. Tensors
have the layout of `encoders.one_layout`.
"""

import math
from typing import Any

from uno_jax.networks.vit import VITS, ViTConfig

from ..mapping import ConversionError, Model, Naming, Row, Shapes, count_layers

ORIGINAL = Naming("original", "blocks.0.attn.qkv.weight")
OPENAI = Naming("OpenAI", "class_embedding")
TRANSFORMERS_VIT = Naming("transformers' ViT", "encoder.layer.0.layernorm_before.weight")
TRANSFORMERS_DINOV2 = Naming("transformers' DINOv2", "encoder.layer.0.layer_scale1.lambda1")
TRANSFORMERS_CLIP = Naming("transformers' CLIP", "embeddings.patch_embedding.weight")

NAMES_ORIGINAL = {
    "patch_embedding.conv": "patch_embed.proj",
    "class_token": "cls_token",
    "registers": "register_tokens",
    "position_embedding": "pos_embed",
    "blocks.layer_norm1.norm": "blocks.{}.norm1",
    "blocks.q_proj": "blocks.{}.attn.qkv",
    "blocks.k_proj": "blocks.{}.attn.qkv",
    "blocks.v_proj": "blocks.{}.attn.qkv",
    "blocks.out_proj": "blocks.{}.attn.proj",
    "blocks.layer_scale1": "blocks.{}.ls1.gamma",
    "blocks.layer_norm2.norm": "blocks.{}.norm2",
    "blocks.fc1": "blocks.{}.mlp.fc1",
    "blocks.fc2": "blocks.{}.mlp.fc2",
    "blocks.layer_scale2": "blocks.{}.ls2.gamma",
    "post_norm.norm": "norm",
    "head.probe": "attn_pool.latent",
    "head.q_proj": "attn_pool.q",
    "head.k_proj": "attn_pool.kv",
    "head.v_proj": "attn_pool.kv",
    "head.out_proj": "attn_pool.proj",
    "head.layer_norm.norm": "attn_pool.norm",
    "head.fc1": "attn_pool.mlp.fc1",
    "head.fc2": "attn_pool.mlp.fc2",
}
NAMES_OPENAI = {
    "patch_embedding.conv": "conv1",
    "class_token": "class_embedding",
    "position_embedding": "positional_embedding",
    "pre_norm.norm": "ln_pre",
    "blocks.layer_norm1.norm": "transformer.resblocks.{}.ln_1",
    "blocks.q_proj": "transformer.resblocks.{}.attn.in_proj_",
    "blocks.k_proj": "transformer.resblocks.{}.attn.in_proj_",
    "blocks.v_proj": "transformer.resblocks.{}.attn.in_proj_",
    "blocks.out_proj": "transformer.resblocks.{}.attn.out_proj",
    "blocks.layer_norm2.norm": "transformer.resblocks.{}.ln_2",
    "blocks.fc1": "transformer.resblocks.{}.mlp.c_fc",
    "blocks.fc2": "transformer.resblocks.{}.mlp.c_proj",
    "post_norm.norm": "ln_post",
    "projection": "proj",
}
NAMES_TRANSFORMERS_VIT = {
    "patch_embedding.conv": "embeddings.patch_embeddings.projection",
    "class_token": "embeddings.cls_token",
    "position_embedding": "embeddings.position_embeddings",
    "blocks.layer_norm1.norm": "encoder.layer.{}.layernorm_before",
    "blocks.q_proj": "encoder.layer.{}.attention.attention.query",
    "blocks.k_proj": "encoder.layer.{}.attention.attention.key",
    "blocks.v_proj": "encoder.layer.{}.attention.attention.value",
    "blocks.out_proj": "encoder.layer.{}.attention.output.dense",
    "blocks.layer_norm2.norm": "encoder.layer.{}.layernorm_after",
    "blocks.fc1": "encoder.layer.{}.intermediate.dense",
    "blocks.fc2": "encoder.layer.{}.output.dense",
    "post_norm.norm": "layernorm",
}
NAMES_TRANSFORMERS_DINOV2 = NAMES_TRANSFORMERS_VIT | {
    "registers": "embeddings.register_tokens",
    "blocks.layer_norm1.norm": "encoder.layer.{}.norm1",
    "blocks.layer_scale1": "encoder.layer.{}.layer_scale1.lambda1",
    "blocks.layer_norm2.norm": "encoder.layer.{}.norm2",
    "blocks.fc1": "encoder.layer.{}.mlp.fc1",
    "blocks.fc2": "encoder.layer.{}.mlp.fc2",
    "blocks.layer_scale2": "encoder.layer.{}.layer_scale2.lambda1",
}
NAMES_TRANSFORMERS_CLIP = {
    "patch_embedding.conv": "embeddings.patch_embedding",
    "class_token": "embeddings.class_embedding",
    "position_embedding": "embeddings.position_embedding.weight",
    "pre_norm.norm": "pre_layrnorm",
    "blocks.layer_norm1.norm": "encoder.layers.{}.layer_norm1",
    "blocks.q_proj": "encoder.layers.{}.self_attn.q_proj",
    "blocks.k_proj": "encoder.layers.{}.self_attn.k_proj",
    "blocks.v_proj": "encoder.layers.{}.self_attn.v_proj",
    "blocks.out_proj": "encoder.layers.{}.self_attn.out_proj",
    "blocks.layer_norm2.norm": "encoder.layers.{}.layer_norm2",
    "blocks.fc1": "encoder.layers.{}.mlp.fc1",
    "blocks.fc2": "encoder.layers.{}.mlp.fc2",
    "post_norm.norm": "post_layernorm",
    "projection": "visual_projection",
    "head.probe": "head.probe",
    "head.q_proj": "head.attention.in_proj_",
    "head.k_proj": "head.attention.in_proj_",
    "head.v_proj": "head.attention.in_proj_",
    "head.out_proj": "head.attention.out_proj",
    "head.layer_norm.norm": "head.layernorm",
    "head.fc1": "head.mlp.fc1",
    "head.fc2": "head.mlp.fc2",
}
TABLES = {
    ORIGINAL: NAMES_ORIGINAL,
    OPENAI: NAMES_OPENAI,
    TRANSFORMERS_VIT: NAMES_TRANSFORMERS_VIT,
    TRANSFORMERS_DINOV2: NAMES_TRANSFORMERS_DINOV2,
    TRANSFORMERS_CLIP: NAMES_TRANSFORMERS_CLIP,
}
# The giant DINOv2 has gated layers instead.
GATED = {
    "blocks.{}.mlp.fc1": "blocks.{}.mlp.w12",
    "blocks.{}.mlp.fc2": "blocks.{}.mlp.w3",
    "encoder.layer.{}.mlp.fc1": "encoder.layer.{}.mlp.weights_in",
    "encoder.layer.{}.mlp.fc2": "encoder.layer.{}.mlp.weights_out",
}

HEAD_DIM = 64
HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}  # number of heads for widths with larger heads
LARGEST_OPENAI = 1024  # largest width of OpenAI's; wider CLIPs are open_clip's, with the exact GELU
OURS = (
    "num_heads",
    "activation",
    "layer_norm_eps",
    "antialias",
    "resolution",
    "shortest_side",
    "mean",
    "std",
)


def rows(config: ViTConfig) -> list[Row]:
    """Returns the table. Rows of parts that this network lacks match no parameter."""
    gated = GATED if config.activation == "swiglu" else {}
    parts = dict.fromkeys(part for names in TABLES.values() for part in names)
    stems = [[names.get(part, "") for names in TABLES.values()] for part in parts]
    return [
        Row(part, tuple(gated.get(stem, stem) for stem in each))
        for part, each in zip(parts, stems, strict=True)
    ]


def infer(shapes: Shapes, naming: Naming, hints: dict[str, Any]) -> ViTConfig:
    """Infers the config from shapes; hints may add OURS; the defaults are those of the published networks."""
    found = _find_shapes(shapes, naming)
    marks = {
        "siglip": found["pooling"] == "attention",
        "clip": found["pre_norm"],
        "dinov2": found["layer_scale"],
    }
    name = next((name for name, there in marks.items() if there), "dino")
    config: dict[str, Any] = {field: getattr(VITS[name], field) for field in OURS}
    config["num_heads"] = _heads(found["hidden_size"], hints)
    config["antialias"] = found["registers"] > 0
    if name in ("siglip", "clip"):
        config["resolution"] = hints.get("resolution", found["grid"] * found["patch_size"])
    if name == "clip":
        config["shortest_side"] = config["resolution"]
        config["activation"] = "gelu" if found["hidden_size"] > LARGEST_OPENAI else "quick_gelu"
    return ViTConfig(**config | hints | found)


def _find_shapes(shapes: Shapes, naming: Naming) -> dict[str, Any]:
    """Returns what the shapes determine.

    Raises KeyError naming a required tensor that is missing.
    """
    names = TABLES[naming]

    def find(part: str, suffix: str = "") -> tuple[int, ...]:
        """Returns a shape, or () if there is no such tensor."""
        return shapes.get(names[part].format(0) + suffix, ()) if part in names else ()

    hidden, _, patch, _ = shapes[names["patch_embedding.conv"] + ".weight"]
    fc1 = names["blocks.fc1"]
    gated = (GATED.get(fc1, "") + ".weight").format(0) in shapes
    inner = shapes[((GATED[fc1] if gated else fc1) + ".weight").format(0)][0]
    pooling = "attention" if find("head.probe") else "class"
    patches = shapes[names["position_embedding"]][0] - (pooling == "class")
    grid = math.isqrt(max(patches, 0))
    if grid**2 != patches:
        raise ConversionError(f"it has positions for {patches} patches, which is not a square number")
    return {
        "patch_size": patch,
        "hidden_size": hidden,
        "intermediate_size": inner // 2 if gated else inner,
        "num_layers": count_layers(shapes, fc1.partition(".{}")[0]),
        "grid": grid,
        "registers": find("registers")[0] if find("registers") else 0,
        "patch_bias": bool(find("patch_embedding.conv", ".bias")),
        "pre_norm": bool(find("pre_norm.norm", ".weight")),
        "layer_scale": bool(find("blocks.layer_scale1")),
        "pooling": pooling,
        "projection": find("projection", ".weight")[0] if find("projection", ".weight") else 0,
        **({"activation": "swiglu"} if gated else {}),
    }


def _heads(hidden: int, hints: dict[str, Any]) -> int:
    heads = hints.get("num_heads", HEADS.get(hidden))
    if heads is None and hidden % HEAD_DIM:
        raise ConversionError(
            f"its width is {hidden}, and the heads are known only for multiples of {HEAD_DIM}: give them "
            'in a JSON file, --config FILE with {"patch_size": 16, "num_heads": …}'
        )
    return heads or hidden // HEAD_DIM


def hints(record: dict[str, Any]) -> dict[str, Any]:
    """Returns what a config.json, transformers' or ours, adds; empty if it belongs to another network."""
    record = {"model_type": record.get("model_type")} | record.get("vision_config", record)
    kind = str(record["model_type"])
    if kind.startswith(("vit", "dinov2", "clip", "siglip")):
        names = {"num_attention_heads": "num_heads", "layer_norm_eps": "layer_norm_eps"}
        names["hidden_act"] = "activation"
        if kind.startswith(("clip", "siglip")):  # DINOv2 records its last training resolution, 518
            names["image_size"] = "resolution"
            # transformers omits its defaults
            record.setdefault("hidden_act", "quick_gelu" if kind.startswith("clip") else "gelu_pytorch_tanh")
        found = {ours: record[theirs] for theirs, ours in names.items() if theirs in record}
        if found.get("activation") == "gelu_pytorch_tanh":
            found["activation"] = "gelu_tanh"
        return found
    ours = {name: record[name] for name in OURS if name in record and "patch_size" in record}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in ours.items()}


MODEL = Model(
    kind="vit",
    title="vision transformer",
    folder="",
    namings=tuple(TABLES),
    prefixes=("visual.trunk.", "visual.", "vision_model.", "vit.", "dinov2.", "dinov2_with_registers."),
    ignored=r"(embeddings\.)?mask_token|pooler\..*|embeddings\.position_ids",  # of training, and a buffer
    rows=rows,
    infer=infer,
    hints=hints,
)
