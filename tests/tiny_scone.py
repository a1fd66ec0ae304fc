"""A tiny Scone model, and sequences of random content for it."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers.pre_tokenizers import ByteLevel

from uno_jax.families.scone.config import EYES
from uno_jax.families.scone.splits import rope_positions
from uno_jax.networks.mot import MoTConfig, MoTInputs
from uno_jax.networks.registry import abstract_params
from uno_jax.tokenizers.qwen import MARKS

MOT = MoTConfig(
    hidden_size=32,
    intermediate_size=48,
    num_layers=4,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    vocab_size=64,
    latent_channels=2,
    latent_side=8,
    vit_size=12,
    vit_side=6,
    bos_id=60,
    eos_id=61,
    image_start_id=62,
    image_end_id=63,
    bridge_layer=1,
    bridge_masked=(2, 2),
)
SPEAKING = replace(MOT, vocab_size=264, bos_id=260, eos_id=261, image_start_id=262, image_end_id=263)
"""A model with a token for every byte, as `write_tokenizer` writes them."""
VIT = replace(
    EYES,
    patch_size=2,
    hidden_size=12,
    intermediate_size=20,
    num_layers=2,
    num_heads=3,
    grid=6,
    resolution=12,
)


def write_tokenizer(folder, config=SPEAKING):
    """A tokenizer of the 256 bytes and the model's marks."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
    added = {getattr(config, field): {"content": name, "special": True} for field, name in MARKS.items()}
    (folder / "vocab.json").write_text(json.dumps(letters))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    return folder


def random_params(seed=0):
    """Random parameters; norms are about 1."""
    rng = np.random.default_rng(seed)

    def values(path, leaf):
        scale = 0.5 * leaf.shape[-2] ** -0.5 if path[-1].key == "kernel" else 0.1
        return jnp.asarray((path[-1].key == "scale") + scale * rng.normal(size=leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(values, abstract_params(MOT)[0])


def sequence(splits, batch=1, seed=0):
    """Random inputs of these splits; targets are at time 0.7."""
    rng = np.random.default_rng(seed)

    def normal(split, width):
        return jnp.asarray(rng.normal(size=(batch, split.tokens, width)), jnp.float32)

    text = [split for split in splits if split.kind == "text"]
    targets = sum(split.kind == "target" for split in splits)
    return MoTInputs(
        text=tuple(jnp.asarray(rng.integers(0, 60, (batch, split.tokens))) for split in text),
        cells=tuple(normal(split, MOT.vit_size) for split in splits if split.kind == "vit"),
        latents=tuple(normal(split, MOT.patch_channels) for split in splits if split.generated),
        times=jnp.full((batch, targets), 0.7),
        positions=jnp.asarray(np.broadcast_to(rope_positions(splits), (batch, len(rope_positions(splits))))),
    )
