"""The optimizer as one optax chain."""

from typing import Any

import jax
import optax

from uno_jax.training.config import OptimConfig


def learning_rate(config: OptimConfig, steps: int) -> optax.Schedule:
    """Linear warm-up, then a cosine to `decay_to` of the peak at the last step (constant when that is 1)."""
    decay = optax.cosine_decay_schedule(
        config.learning_rate, max(steps - config.warmup_steps, 1), alpha=config.decay_to
    )
    warmup = optax.linear_schedule(0.0, config.learning_rate, max(config.warmup_steps, 1))
    return optax.join_schedules([warmup, decay], [config.warmup_steps]) if config.warmup_steps else decay


def make_optimizer(config: OptimConfig, steps: int) -> optax.GradientTransformation:
    """Clipping of the global norm, then AdamW on every trained array, as UNO's trainer has it.

    The rate is a schedule and not an injected hyperparameter (optax.inject_hyperparams): that is a state of
    another structure, which checkpoints of earlier runs do not hold.
    """
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
    """Number of updates that the schedule has counted."""
    states = jax.tree.leaves(opt_state, is_leaf=_is_schedule)
    return max((int(state.count) for state in states if _is_schedule(state)), default=0)


def with_schedule_from_start(opt_state: Any) -> Any:
    """The state with Adam's moments kept and the learning-rate schedule reset to its start."""

    def begin(state: Any) -> Any:  # times 0, so that the count keeps its sharding
        return state._replace(count=state.count * 0) if _is_schedule(state) else state

    return jax.tree.map(begin, opt_state, is_leaf=_is_schedule)


def _is_schedule(state: Any) -> bool:
    return isinstance(state, optax.ScaleByScheduleState)
