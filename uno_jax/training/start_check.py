"""What a run starts from, checked before any weight is loaded, which takes minutes for FLUX."""

import dataclasses
from typing import Any

from uno_jax.support.errors import RecipeError
from uno_jax.training.checkpoints import last_step
from uno_jax.training.config import TrainConfig
from uno_jax.training.state import (
    abstract_trees,
    check_weights,
    networks_of,
    read_start_lora,
    split_params,
)


def check_start(config: TrainConfig, model: Any) -> None:
    """Raises RecipeError, CheckpointError or FileNotFoundError for networks without weights, patterns that
    match no parameter, and a LoRA or a run to start from that does not exist or fit.
    """
    for kind in networks_of(config):
        check_weights(config, kind)
    shapes = {kind: tree for kind, (tree, _) in abstract_trees(config, model).items()}
    split_params(shapes, config.trainable)
    if config.init_lora and config.trains("lora"):
        read_start_lora(config, model)
    if config.init_run and last_step(dataclasses.replace(config, workdir=config.init_run)) is None:
        raise RecipeError(
            f"init_run: no checkpoints in {config.init_run}; give the working directory of a run"
        )
