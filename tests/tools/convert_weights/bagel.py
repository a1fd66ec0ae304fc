"""A folder of a tiny BAGEL's weights, in the names and files of the published one."""

import json
from dataclasses import replace
from pathlib import Path

from safetensors.numpy import load_file, save_file

from tests.tiny_model import TINY, random_params
from tests.tiny_scone import SPEAKING, VIT, write_tokenizer
from tools.convert_weights.export import export
from tools.convert_weights.scone import export_scone
from tools.convert_weights.tables import vae
from uno_jax.weights.checkpoint import save_network

PARTS = {"mot": SPEAKING, "vit": VIT, "vae": replace(TINY.vae, latent_channels=SPEAKING.latent_channels)}
FILES = {
    "llm_config": {"rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 32_768},
    "vit_config": {"num_attention_heads": VIT.num_heads, "layer_norm_eps": 1e-6, "num_hidden_layers": 3},
    "config": {
        "latent_patch_size": 2,
        "vit_max_num_patch_per_side": 6,
        "special_tokens": {
            "bos_token_id": 260,
            "eos_token_id": 261,
            "start_of_image": 262,
            "end_of_image": 263,
        },
        "semantic_mask": {"early_layer_idx": 1, "first_masked_layer": 2, "last_masked_layer": 2},
    },
}
"""What BAGEL's own files say, and a recording's of a model of other sizes."""


def write_native(folder: Path) -> Path:
    for number, (kind, config) in enumerate(PARTS.items()):
        save_network(folder / kind, config, random_params(config, number))
    return folder


def write_bagel(folder: Path, native: Path) -> Path:
    """The native model in BAGEL's files, without the metadata that our own have."""
    folder.mkdir()
    export_scone(native, folder / "ema.safetensors")
    export(vae.MODEL, native, folder / "ae.safetensors")
    for file in folder.iterdir():
        save_file(load_file(file), file)
    for name, record in FILES.items():
        (folder / f"{name}.json").write_text(json.dumps(record))
    write_tokenizer(folder)
    return folder
