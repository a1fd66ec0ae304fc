"""The FLUX autoencoder's table: ours, the original ae.safetensors, and diffusers' AutoencoderKL.

diffusers counts the decoder's levels in reverse, and stores the 1x1 convolutions of the attention as
linear layers.
"""

from typing import Any, NamedTuple

from uno_jax.networks.vae import VAEConfig

from ..mapping import Model, Naming, Row, Shapes, count_layers

ORIGINAL = Naming("original", "encoder.down.0.block.0.conv1.weight")
DIFFUSERS = Naming("diffusers", "encoder.down_blocks.0.resnets.0.conv1.weight")


def _resnet(ours: str, original: str, diffusers: str, shortcut: bool = False) -> list[Row]:
    names = (
        ("norm1.norm", "norm1"),
        ("conv1.conv", "conv1"),
        ("norm2.norm", "norm2"),
        ("conv2.conv", "conv2"),
    )
    rows = [Row(f"{ours}.{to}", (f"{original}.{name}", f"{diffusers}.{name}")) for to, name in names]
    if shortcut:
        rows.append(
            Row(f"{ours}.nin_shortcut.conv", (f"{original}.nin_shortcut", f"{diffusers}.conv_shortcut"))
        )
    return rows


def _mid(part: str) -> list[Row]:
    names = (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0"))
    mid, attention = f"{part}.mid", f"{part}.mid_block.attentions.0"
    return [
        *_resnet(f"{mid}.block_1", f"{mid}.block_1", f"{part}.mid_block.resnets.0"),
        Row(f"{mid}.attn_1.norm.norm", (f"{mid}.attn_1.norm", f"{attention}.group_norm")),
        *(
            Row(f"{mid}.attn_1.{ours}.conv", (f"{mid}.attn_1.{ours}", f"{attention}.{theirs}"))
            for ours, theirs in names
        ),
        *_resnet(f"{mid}.block_2", f"{mid}.block_2", f"{part}.mid_block.resnets.1"),
    ]


def _ends(part: str) -> list[Row]:
    return [
        Row(f"{part}.conv_in.conv", (f"{part}.conv_in", f"{part}.conv_in")),
        *_mid(part),
        Row(f"{part}.norm_out.norm", (f"{part}.norm_out", f"{part}.conv_norm_out")),
        Row(f"{part}.conv_out.conv", (f"{part}.conv_out", f"{part}.conv_out")),
    ]


class _Level(NamedTuple):
    """A level of the encoder or decoder: its number, whether its first block changes the width, its number of
    blocks, and whether it ends with a change of resolution.
    """

    number: int
    changes: bool
    blocks: int
    resample: bool


def _level(part: str, ours: str, diffusers: str, level: _Level) -> list[Row]:
    """One level of the encoder (ours "down") or decoder ("up")."""
    rows = []
    prefix, original = f"{part}.{ours}_{level.number}", f"{part}.{ours}.{level.number}"
    for block in range(level.blocks):
        theirs, shortcut = f"{diffusers}.resnets.{block}", level.changes and block == 0
        rows += _resnet(f"{prefix}_block_{block}", f"{original}.block.{block}", theirs, shortcut)
    if level.resample:
        name = f"{ours}sample"
        rows.append(Row(f"{prefix}_{name}.conv", (f"{original}.{name}.conv", f"{diffusers}.{name}rs.0.conv")))
    return rows


def rows(config: VAEConfig) -> list[Row]:
    """Returns the table."""
    widths, last = config.multipliers, len(config.multipliers) - 1
    table = [*_ends("encoder"), *_ends("decoder")]
    for level, width in enumerate(widths):
        before = widths[max(level - 1, 0)] if level else 1
        down = _Level(level, width != before, config.res_blocks, level < last)
        table += _level("encoder", "down", f"encoder.down_blocks.{level}", down)
        after = widths[min(level + 1, last)]
        up = _Level(level, width != after, config.res_blocks + 1, level > 0)
        table += _level("decoder", "up", f"decoder.up_blocks.{last - level}", up)
    return table


def infer(shapes: Shapes, naming: Naming, hints: dict[str, Any]) -> VAEConfig:
    """Infers the config from shapes; hints may add the norm's groups and the latent's scale and shift."""
    down, block = ("down", "block") if naming == ORIGINAL else ("down_blocks", "resnets")
    width = shapes["encoder.conv_in.weight"][0]
    levels = count_layers(shapes, f"encoder.{down}")
    outs = (shapes[f"encoder.{down}.{level}.{block}.0.conv1.weight"][0] for level in range(levels))
    found: dict[str, Any] = {
        "width": width,
        "multipliers": tuple(out // width for out in outs),
        "res_blocks": count_layers(shapes, f"encoder.{down}.0.{block}"),
        "latent_channels": shapes["decoder.conv_in.weight"][1],
    }
    return VAEConfig(**hints, **found)


def hints(record: dict[str, Any]) -> dict[str, Any]:
    """Returns what a config.json, diffusers' or ours, adds; empty if it belongs to another network."""
    if record.get("_class_name") == "AutoencoderKL":
        names = {"norm_num_groups": "norm_groups", "scaling_factor": "scale", "shift_factor": "shift"}
        return {ours: record[theirs] for theirs, ours in names.items() if record.get(theirs) is not None}
    ours = ("norm_groups", "scale", "shift")
    return {name: record[name] for name in ours if name in record and "multipliers" in record}


MODEL = Model(
    kind="vae",
    title="FLUX autoencoder",
    folder="vae",
    namings=(ORIGINAL, DIFFUSERS),
    prefixes=("vae.", "first_stage_model."),
    ignored="",
    rows=rows,
    infer=infer,
    hints=hints,
)
