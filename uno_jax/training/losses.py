"""The loss of a recipe: its family's objective, in the recipe's precision."""

from typing import Any

import jax
from jaxtyping import Array, Float

from uno_jax.families.family import Loss
from uno_jax.families.registry import family_of
from uno_jax.support.trees import Params
from uno_jax.training.config import TrainConfig


def make_loss(config: TrainConfig, model: Any) -> Loss:
    """The loss of a batch given every parameter tree by name, for the recipe's objective."""
    objective = family_of(model).need_trainer().objectives[config.objective].make_loss(config, model)

    def loss(params: dict[str, Params], batch: Any, key: jax.Array) -> Float[Array, ""]:
        with jax.default_matmul_precision(config.precision or None):
            return objective(params, batch, key)

    return loss
