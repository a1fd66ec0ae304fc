"""The CLIP text tower's table: ours, transformers, and OpenAI's original (also open_clip's).

A full CLIP file is read too: its vision tower and projections are ignored. The original keeps q, k, v as one
in_proj.
"""

from typing import Any

from uno_jax.config import CLIPConfig

from .mapping import ConversionError, Model, Naming, Row, Shapes, count_layers

TRANSFORMERS = Naming("transformers", "embeddings.token_embedding.weight")
ORIGINAL = Naming("original", "positional_embedding")
HEAD_DIM = 64  # of every released CLIP


def rows(config: CLIPConfig) -> list[Row]:
    """The table."""
    names = (
        ("layer_norm1.norm", "layer_norm1", "ln_1"),
        ("q_proj", "self_attn.q_proj", "attn.in_proj_"),
        ("k_proj", "self_attn.k_proj", "attn.in_proj_"),
        ("v_proj", "self_attn.v_proj", "attn.in_proj_"),
        ("out_proj", "self_attn.out_proj", "attn.out_proj"),
        ("layer_norm2.norm", "layer_norm2", "ln_2"),
        ("fc1", "mlp.fc1", "mlp.c_fc"),
        ("fc2", "mlp.fc2", "mlp.c_proj"),
    )
    blocks = [
        Row(f"blocks.{ours}", (f"encoder.layers.{{}}.{theirs}", f"transformer.resblocks.{{}}.{original}"))
        for ours, theirs, original in names
    ]
    return [
        Row("token_embedding", ("embeddings.token_embedding.weight", "token_embedding.weight")),
        Row("position_embedding", ("embeddings.position_embedding.weight", "positional_embedding")),
        *blocks,
        Row("final_layer_norm.norm", ("final_layer_norm", "ln_final")),
    ]


def infer(shapes: Shapes, naming: Naming, hints: dict[str, Any]) -> CLIPConfig:
    """The config from shapes; hints may add the number of heads, the activation and the epsilon."""
    if naming == TRANSFORMERS:
        tokens, positions = "embeddings.token_embedding.weight", "embeddings.position_embedding.weight"
        mlp, blocks = "encoder.layers.0.mlp.fc1.weight", "encoder.layers"
    else:
        tokens, positions = "token_embedding.weight", "positional_embedding"
        mlp, blocks = "transformer.resblocks.0.mlp.c_fc.weight", "transformer.resblocks"
    vocab, hidden = shapes[tokens]
    told = {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": shapes[mlp][0],
        "num_layers": count_layers(shapes, blocks),
        "max_positions": shapes[positions][0],
    }
    if hidden % HEAD_DIM and "num_heads" not in hints:
        raise ConversionError(
            f"it is {hidden} wide, and the heads are known only for multiples of {HEAD_DIM}: give them "
            'in a JSON file, --config FILE with {"max_positions": 77, "num_heads": …}'
        )
    return CLIPConfig(**{"num_heads": hidden // HEAD_DIM, **hints, **told})


def hints(record: dict[str, Any]) -> dict[str, Any]:
    """What a config.json, transformers' or in our words, adds; empty if it is another network's."""
    record = record.get("text_config", record)
    if record.get("model_type") in ("clip", "clip_text_model"):
        names = {
            "num_attention_heads": "num_heads",
            "hidden_act": "activation",
            "layer_norm_eps": "layer_norm_eps",
        }
        return {ours: record[theirs] for theirs, ours in names.items() if theirs in record}
    ours = ("num_heads", "activation", "layer_norm_eps")
    return {name: record[name] for name in ours if name in record and "max_positions" in record}


MODEL = Model(
    kind="clip",
    title="CLIP text encoder",
    folder="text_encoder",
    namings=(TRANSFORMERS, ORIGINAL),
    prefixes=("text_model.", "text_encoders.clip_l.transformer.text_model."),
    # A buffer, and the rest of a full CLIP.
    ignored=r"embeddings\.position_ids|visual\..*|text_projection(\.weight)?|logit_scale",
    rows=rows,
    infer=infer,
    hints=hints,
    written_prefix="text_model.",  # as released files have it
)
