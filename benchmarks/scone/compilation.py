"""Compilation of many layers against few: scanned layers should cost the same."""

import time
from dataclasses import replace

import jax

from benchmarks.scone.model import CONFIG, SPLITS, abstract_inputs, velocity, with_layers
from uno_jax.networks.registry import abstract_params

NARROW = replace(CONFIG, hidden_size=64, intermediate_size=96, num_heads=4, num_kv_heads=2, head_dim=16)


def seconds_to_compile(layers: int) -> float:
    """CPU seconds for tracing and compiling the forward of a narrow decoder."""
    start = time.process_time()
    lowered(layers).compile()
    return time.process_time() - start


def lowered(layers: int) -> jax.stages.Lowered:
    """The program before it is compiled."""
    config = with_layers(NARROW, layers)
    return jax.jit(velocity(config, SPLITS)).lower(
        abstract_params(config)[0], abstract_inputs(config, SPLITS)
    )
