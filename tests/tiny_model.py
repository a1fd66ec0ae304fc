"""A model directory of the `tiny` preset with random weights and a LoRA for it, in the native format."""

from functools import partial
from pathlib import Path

import jax
import numpy as np

from uno_jax.families.registry import family_of
from uno_jax.families.uno.conditioning import make_batch
from uno_jax.families.uno.config import PRESETS, LoraConfig, ModelConfig, UnoPE
from uno_jax.families.uno.lora import LoraInfo, abstract_lora
from uno_jax.networks.mmdit_config import MMDiTConfig
from uno_jax.networks.registry import NetworkConfig, abstract_params
from uno_jax.support.trees import Params
from uno_jax.weights.checkpoint import save_lora, save_network

TINY = PRESETS["tiny"]
RANK = LoraConfig(rank=4)
MAKE_BATCH = partial(make_batch, TINY)


def random_params(config: NetworkConfig, seed: int) -> Params:
    """No array is zero, so that every part shows in a picture; made by numpy, which compiles nothing."""
    rng = np.random.default_rng(seed)

    def leaf(path, shape):
        noise = rng.standard_normal(shape.shape, np.float32)
        match path[-1].key:
            case "scale":
                return 1 + noise / 10
            case "bias":
                return noise / 10
        fan_in = np.prod(shape.shape[:-1]) if shape.ndim == 4 else shape.shape[-2]
        return noise / np.float32(np.sqrt(fan_in))

    return jax.tree_util.tree_map_with_path(leaf, abstract_params(config)[0])


def write_model(directory: Path, config: ModelConfig = TINY, seed: int = 0) -> Path:
    for number, kind in enumerate(family_of(config).networks):
        part = getattr(config, kind)
        save_network(directory / kind, part, random_params(part, seed + number), defaults=config.defaults)
    return directory


def make_lora(mmdit: MMDiTConfig = TINY.mmdit) -> Params:
    rng = np.random.default_rng(7)
    shapes, _ = abstract_lora(mmdit, RANK)
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32) / 8, shapes)


def write_lora(directory: Path, unope: UnoPE, mmdit: MMDiTConfig = TINY.mmdit) -> Path:
    save_lora(directory, LoraInfo(mmdit, RANK, unope), make_lora(mmdit))
    return directory
