"""The T5 v1.1 encoder's table. transformers and the single-file t5xxl use the same names."""

from typing import Any

from uno_jax.networks.t5 import T5Config

from ..mapping import Model, Naming, Row, Shapes, count_layers

TRANSFORMERS = Naming("transformers", "encoder.block.0.layer.0.SelfAttention.q.weight")
BIAS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"


def rows(config: T5Config) -> list[Row]:
    """Returns the table."""
    attention, mlp = "encoder.block.{}.layer.0", "encoder.block.{}.layer.1"
    return [
        Row("embedding", ("shared.weight",)),
        Row("relative_attention_bias", (BIAS,)),
        Row("blocks.attention_norm", (f"{attention}.layer_norm",)),
        *(Row(f"blocks.{name}", (f"{attention}.SelfAttention.{name}",)) for name in "qkvo"),
        Row("blocks.mlp_norm", (f"{mlp}.layer_norm",)),
        *(Row(f"blocks.{name}", (f"{mlp}.DenseReluDense.{name}",)) for name in ("wi_0", "wi_1", "wo")),
        Row("final_norm", ("encoder.final_layer_norm",)),
    ]


def infer(shapes: Shapes, naming: Naming, hints: dict[str, Any]) -> T5Config:
    """Infers the config from shapes; hints may add the maximal distance, epsilon and padded length."""
    block = "encoder.block.0.layer.{}"
    buckets, heads = shapes[BIAS]
    vocab, d_model = shapes["shared.weight"]
    found: dict[str, Any] = {
        "vocab_size": vocab,
        "d_model": d_model,
        "d_kv": shapes[block.format("0.SelfAttention.q.weight")][0] // heads,
        "d_ff": shapes[block.format("1.DenseReluDense.wi_0.weight")][0],
        "num_layers": count_layers(shapes, "encoder.block"),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
    }
    return T5Config(**hints, **found)


def hints(record: dict[str, Any]) -> dict[str, Any]:
    """Returns what a config.json, transformers' or ours, adds; empty if it belongs to another network."""
    names = ("relative_attention_max_distance", "layer_norm_epsilon", "length")
    return {name: record[name] for name in names if name in record and "d_kv" in record}


MODEL = Model(
    kind="t5",
    title="T5 v1.1 encoder",
    folder="text_encoder_2",
    namings=(TRANSFORMERS,),
    prefixes=("text_encoders.t5xxl.transformer.",),
    ignored=r"encoder\.embed_tokens\.weight|logit_scale",  # a copy of shared.weight; ComfyUI's
    rows=rows,
    infer=infer,
    hints=hints,
    # Of tensors that share memory, some programs save one name only.
    stand_ins={"encoder.embed_tokens.weight": "shared.weight"},
)
