"""The CLIP text tower's table: ours, transformers, and OpenAI's original (also open_clip's).

In a full CLIP file the vision tower and projections are ignored. `PROJECTED` includes the text projection,
from sources in the layout of `encoders.one_layout`. The original stores q, k and v as one in_proj.
"""

import dataclasses
from typing import Any

from uno_jax.networks.clip import CLIPConfig

from ..mapping import ConversionError, Model, Naming, Row, Shapes, count_layers

TRANSFORMERS = Naming("transformers", "embeddings.token_embedding.weight")
ORIGINAL = Naming("original", "positional_embedding")
HEAD_DIM = 64  # in every released CLIP
LARGEST_OPENAI = 768  # largest width of OpenAI's; wider ones are open_clip's, with the exact GELU


def rows(config: CLIPConfig) -> list[Row]:
    """Returns the table."""
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
    """Infers the config from shapes; hints may add the number of heads, the activation and the epsilon."""
    if naming == TRANSFORMERS:
        tokens, positions = "embeddings.token_embedding.weight", "embeddings.position_embedding.weight"
        mlp, blocks = "encoder.layers.0.mlp.fc1.weight", "encoder.layers"
    else:
        tokens, positions = "token_embedding.weight", "positional_embedding"
        mlp, blocks = "transformer.resblocks.0.mlp.c_fc.weight", "transformer.resblocks"
    vocab, hidden = shapes[tokens]
    found: dict[str, Any] = {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": shapes[mlp][0],
        "num_layers": count_layers(shapes, blocks),
        "max_positions": shapes[positions][0],
    }
    activation = "quick_gelu" if hidden <= LARGEST_OPENAI else "gelu"
    if hidden % HEAD_DIM and "num_heads" not in hints:
        raise ConversionError(
            f"its width is {hidden}, and the heads are known only for multiples of {HEAD_DIM}: give them "
            'in a JSON file, --config FILE with {"max_positions": 77, "num_heads": …}'
        )
    return CLIPConfig(**{"num_heads": hidden // HEAD_DIM, "activation": activation, **hints, **found})


def hints(record: dict[str, Any]) -> dict[str, Any]:
    """Returns what a config.json, transformers' or ours, adds; empty if it belongs to another network."""
    record = record.get("text_config", record)
    if record.get("model_type") in ("clip", "clip_text_model"):
        names = {
            "num_attention_heads": "num_heads",
            "hidden_act": "activation",
            "layer_norm_eps": "layer_norm_eps",
        }
        known = {"hidden_act": "quick_gelu"} | record  # transformers omits its default
        return {ours: known[theirs] for theirs, ours in names.items() if theirs in known}
    ours = ("num_heads", "activation", "layer_norm_eps")
    return {name: record[name] for name in ours if name in record and "max_positions" in record}


MODEL = Model(
    kind="clip",
    title="CLIP text encoder",
    folder="text_encoder",
    namings=(TRANSFORMERS, ORIGINAL),
    prefixes=("text_model.", "text_encoders.clip_l.transformer.text_model."),
    # A buffer, and the other parts of a full CLIP.
    ignored=r"embeddings\.position_ids|visual\..*|text_projection(\.weight)?|logit_scale",
    rows=rows,
    infer=infer,
    hints=hints,
    written_prefix="text_model.",  # as released files have it
)


# With the projection. transformers stores it beside the tower, whose prefix is then part of the stems.
UNDER = MODEL.written_prefix
PROJECTION = "text_projection"


def rows_projected(config: CLIPConfig) -> list[Row]:
    """The table of `PROJECTED`."""
    tower = [Row(row.target, (f"{UNDER}{row.stems[0]}", row.stems[1])) for row in rows(config)]
    return [*tower, Row("projection", (PROJECTION, PROJECTION))]


def infer_projected(shapes: Shapes, naming: Naming, hints: dict[str, Any]) -> CLIPConfig:
    """As `infer`."""
    tower = {key.removeprefix(UNDER): shape for key, shape in shapes.items()}
    config = infer(tower, TRANSFORMERS if naming.marker.startswith(UNDER) else naming, hints)
    return dataclasses.replace(config, projection=shapes[f"{PROJECTION}.weight"][0])


PROJECTED = dataclasses.replace(
    MODEL,
    title="CLIP text encoder with projection",
    namings=(Naming(TRANSFORMERS.name, UNDER + TRANSFORMERS.marker), ORIGINAL),
    prefixes=(),
    ignored=r"text_model\.embeddings\.position_ids|(vision_model|visual)\..*|logit_scale|input_resolution"
    r"|context_length|vocab_size",
    rows=rows_projected,
    infer=infer_projected,
    written_prefix="",
)
