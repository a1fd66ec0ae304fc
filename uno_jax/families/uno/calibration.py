"""How what the MM-DiT's blocks add to the image tokens grows from step to step: MagCache's calibration."""

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from uno_jax.families.family import Inputs
from uno_jax.families.latents import token_grid
from uno_jax.families.model import Model
from uno_jax.families.uno.denoising import State, Steps, take_step
from uno_jax.families.uno.sampling import begin_steps, encode_inputs
from uno_jax.families.uno.settings import Settings
from uno_jax.families.uno.velocity import mmdit_inputs, variables
from uno_jax.networks.mmdit import MMDiT
from uno_jax.support.bounded_jit import bounded_jit


def step_ratios(model: Model, inputs: Inputs, settings: Settings) -> Float[np.ndarray, "steps"]:
    """For every step the length of what the blocks add to a token, divided by that of the step before, on
    average over tokens and pictures (MagCache, arXiv 2506.09045, equation of its magnitude ratio); 1 for the
    first. The pictures are drawn with every step, and the plain prediction of guidance is left aside.
    """
    noise, shown, schedule, contrast, given = encode_inputs(model, inputs, settings)
    core = model.using("mmdit", "lora")
    steps, state = begin_steps(core, noise, shown, schedule._replace(computed=None), contrast, given)
    lengths = []
    for step in range(len(steps.each.t)):
        state, found = measured_state(core, steps, state, jnp.int32(step))
        lengths.append(np.asarray(found))
    grown = [np.mean(after / before) for before, after in zip(lengths, lengths[1:], strict=False)]
    return np.array([1.0, *grown])


@bounded_jit
def measured_state(
    model: Model, steps: Steps, state: State, step: Int[Array, ""]
) -> tuple[State, Float[Array, "b l"]]:
    """The state after step number `step`, and the length of what the blocks add to each token in it."""
    each = jax.tree.map(lambda leaf: leaf[step], steps.each)
    net, params = MMDiT(model.config.mmdit, model.compute_dtype), variables(model.params)
    size = token_grid(steps.noise)
    inputs = mmdit_inputs(net, params, state.x, size, each.now, steps.conditioning)
    _, found = net.apply(params, inputs, mutable=["intermediates"])
    added = cast(Array, found["intermediates"]["added"][0])
    return take_step(model, steps, state, each), jnp.linalg.norm(added.astype(jnp.float32), axis=-1)
