"""The optimizer as one optax chain."""

from typing import Any

import optax

from uno_jax.recipe import OptimConfig


def learning_rate(config: OptimConfig, steps: int) -> optax.Schedule:
    """Linear warm-up, then a cosine to `decay_to` of the peak at the last step (constant when that is 1)."""
    decay = optax.cosine_decay_schedule(
        config.learning_rate, max(steps - config.warmup_steps, 1), alpha=config.decay_to
    )
    warmup = optax.linear_schedule(0.0, config.learning_rate, max(config.warmup_steps, 1))
    return optax.join_schedules([warmup, decay], [config.warmup_steps]) if config.warmup_steps else decay


def make_optimizer(config: OptimConfig, steps: int) -> optax.GradientTransformation:
    """Clipping of the global norm, then AdamW on every trained array, as UNO's trainer has it."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate(config, steps),
            b1=config.b1,
            b2=config.b2,
            eps=config.eps,
            weight_decay=config.weight_decay,
        ),
    )


def count_updates(opt_state: Any) -> int:
    """Updates made so far, in a run that this one carries on too: what the schedule has counted."""
    return max((int(count) for _, count in optax.tree.get_all_with_path(opt_state, "count")), default=0)
