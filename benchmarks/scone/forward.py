"""The forward of a picture's whole sequence against transformers' Qwen3 with the same mask, by SDPA.

Qwen3 has one expert of the same sizes, so that each token passes as many products. It is given what enters
the first layer, and stops before its head; here the embedding of all tokens is part of the call.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch

from benchmarks.measure import least_cpu_seconds
from benchmarks.scone.model import random_inputs, random_params
from benchmarks.scone.qwen3 import understanding_expert
from uno_jax.families.scone.splits import token_rules, visible
from uno_jax.networks.mot import MoT, MoTConfig, MoTInputs
from uno_jax.networks.splits import Layout, Splits, joined
from uno_jax.support.compiler_options import EIGEN_PRODUCTS
from uno_jax.support.trees import Params

TOLERANCE = 2e-5  # of the largest value


def ours(params: Params, config: MoTConfig, splits: Splits, inputs: MoTInputs) -> Callable[[], np.ndarray]:
    """The hidden states of all tokens."""

    def hidden_states(params: Params, inputs: MoTInputs) -> jax.Array:
        hidden: Any = MoT(config).apply({"params": params}, inputs, Layout(splits))
        return joined(hidden.und, hidden.gen, splits)

    run = jax.jit(hidden_states, compiler_options=EIGEN_PRODUCTS.get(jax.default_backend()))
    return lambda: np.asarray(run(params, inputs))


def theirs(module: Callable[..., Any], entering: np.ndarray, splits: Splits, inputs: MoTInputs) -> Any:
    embedded, mask = torch.tensor(entering), torch.from_numpy(visible(token_rules([splits])))[None, None]
    positions = torch.tensor(np.array(inputs.positions, np.int64))

    def run() -> np.ndarray:
        with torch.inference_mode():
            found = module(
                inputs_embeds=embedded, attention_mask=mask, position_ids=positions, use_cache=False
            )
            return found.last_hidden_state.numpy()

    return run


def compare(config: MoTConfig, splits: Splits, rounds: int, compiled: bool) -> dict[str, float]:
    """The least CPU seconds of each side.

    Raises ValueError when the sides' results differ.
    """
    params, inputs = random_params(config), random_inputs(config, splits)
    und, gen = MoT(config).apply({"params": params}, inputs, splits, method="embed")
    entering = np.asarray(joined(und, gen, splits))
    module = understanding_expert(config, params).model
    cases = {"uno_jax": ours(params, config, splits, inputs)}
    cases["Qwen3, eager"] = theirs(module, entering, splits, inputs)
    if compiled:
        cases["Qwen3, torch.compile"] = theirs(torch.compile(module), entering, splits, inputs)
    outputs = {name: call() for name, call in cases.items()}
    expected = outputs["uno_jax"]
    errors = {name: np.abs(out - expected).max() / np.abs(expected).max() for name, out in outputs.items()}
    if max(errors.values()) > TOLERANCE:
        raise ValueError(f"the sides disagree by more than {TOLERANCE} of the largest value: {errors}")
    return least_cpu_seconds(cases, rounds)
