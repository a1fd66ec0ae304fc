"""What a run starts from, checked before any weight is loaded, which takes minutes for FLUX."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp

from uno_jax.data.config import DataConfig
from uno_jax.families.registry import family_of
from uno_jax.support.errors import RecipeError
from uno_jax.support.images import bucket_sizes
from uno_jax.support.memory import free_machine_bytes, refuse_beyond_memory
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

WORKER_BYTES = 128 << 20  # of a process that reads batches; 190 MiB of its own were measured
ADAMW_BYTES = 12  # a trained parameter and its two moments, in float32


def check_start(config: TrainConfig, model: Any, only_export: bool = False) -> None:
    """Raises RecipeError, CheckpointError or FileNotFoundError for networks without weights, patterns that
    match no parameter, what cannot fit into memory, and a LoRA or a run to start from that does not exist or
    fit.
    """
    for kind in networks_of(config):
        check_weights(config, kind)
    shapes = {kind: tree for kind, (tree, _) in abstract_trees(config, model).items()}
    frozen, trained = split_params(shapes, config.trainable)
    weights = check_weights_memory(config, count(trained), count(frozen))
    if not only_export:
        check_batch_memory(config, model, weights)
        what = f"{counted(config.data.workers, 'process', 'processes')} that read batches"
        least = config.data.workers * WORKER_BYTES
        refuse_beyond_memory(least, what, "give a smaller data.workers", free_machine_bytes())
    if config.init_lora and config.trains("lora"):
        read_start_lora(config, model)
    if config.init_run and last_step(dataclasses.replace(config, workdir=config.init_run)) is None:
        raise RecipeError(
            f"init_run: no checkpoints in {config.init_run}; give the working directory of a run"
        )


def check_weights_memory(config: TrainConfig, trained: int, frozen: int) -> int:
    """Bytes of the weights and of AdamW's moments, at the least.

    Raises RecipeError where they cannot fit into memory.
    """
    size = 1 if config.base else jnp.dtype(config.dtype).itemsize
    weights = trained * ADAMW_BYTES + frozen * size
    what = f"{trained:,} trained and {frozen:,} frozen parameters"
    refuse_beyond_memory(weights, what, "train fewer (trainable, lora.rank), or a smaller model")
    return weights


def check_batch_memory(config: TrainConfig, model: Any, weights: int) -> None:
    """Raises RecipeError where a batch of the smallest targets cannot fit into memory beside the weights."""
    part, (height, width) = config.batch_size // config.accumulate, smallest_target(config.data)
    need = weights
    if not config.data.encodings:
        need += 12 * config.batch_size * height * width  # float32 pixels
    if config.objective == "flow":
        need += family_of(model).sampler.least_bytes(model, part, [(width, height)], config.dtype)
    what = f"the weights and {counted(part, 'sample')} of {width}x{height} at once"
    refuse_beyond_memory(need, what, "give a smaller batch_size or data.resolution, or more accumulate")


def smallest_target(data: DataConfig) -> tuple[int, int]:
    """The (height, width) of the smallest target that the lists may hold."""
    given = [source.size for source in data.lists if source.size is not None]
    return min([*given, *bucket_sizes(data.resolution)], key=math.prod)
