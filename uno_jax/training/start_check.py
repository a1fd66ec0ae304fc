"""What a run starts from, checked before any weight is loaded, which takes minutes for FLUX."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from uno_jax.costs.memory import refuse_beyond_memory
from uno_jax.families.registry import family_of
from uno_jax.support.errors import RecipeError
from uno_jax.support.trees import count
from uno_jax.support.words import counted
from uno_jax.training.checkpoints import last_step
from uno_jax.training.config import TrainConfig
from uno_jax.training.state import (
    abstract_trees,
    check_weights,
    networks_of,
    read_start_lora,
    split_params,
)

ADAMW_BYTES = 12  # a trained parameter and its two moments, in float32


def check_start(config: TrainConfig, model: Any) -> None:
    """Raises RecipeError, CheckpointError or FileNotFoundError for networks without weights, patterns that
    match no parameter, and a LoRA or a run to start from that does not exist or fit.
    """
    for kind in networks_of(config):
        check_weights(config, kind)
    shapes = {kind: tree for kind, (tree, _) in abstract_trees(config, model).items()}
    frozen, trained = split_params(shapes, config.trainable)
    check_memory(config, model, count(trained), count(frozen))
    if config.init_lora and config.trains("lora"):
        read_start_lora(config, model)
    if config.init_run and last_step(dataclasses.replace(config, workdir=config.init_run)) is None:
        raise RecipeError(
            f"init_run: no checkpoints in {config.init_run}; give the working directory of a run"
        )


def check_memory(config: TrainConfig, model: Any, trained: int, frozen: int) -> None:
    """Raises RecipeError where the weights, AdamW's moments or a batch cannot fit into memory."""
    size, parts = jnp.dtype(config.dtype).itemsize, config.accumulate
    weights = trained * ADAMW_BYTES + frozen * (1 if config.base else size)
    what = f"{trained:,} trained and {frozen:,} frozen parameters"
    refuse_beyond_memory(weights, what, "train fewer (trainable, lora.rank), or a smaller model")
    batch, side = config.batch_size // parts, config.data.resolution
    sizes = ((side, side),)
    need = weights + 12 * config.batch_size * side**2
    if config.objective == "flow":
        need += family_of(model).sampler.least_bytes(model, batch, sizes, config.dtype)
    what = f"the weights and {counted(batch, 'sample')} of {side}x{side} at once"
    refuse_beyond_memory(need, what, "give a smaller batch_size or data.resolution, or more accumulate")
