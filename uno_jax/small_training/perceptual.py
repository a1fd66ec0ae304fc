"""LPIPS: how different two pictures look to VGG16 (arXiv 1801.03924), as a loss for the autoencoder.

The first three of the five stages, which see edges and textures; the weights are Zhang et al.'s (BSD) on
Simonyan and Zisserman's VGG16.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from uno_jax.support.errors import CheckpointError
from uno_jax.weights.safetensors_file import read_header

STAGES = ((0, 1), (2, 3), (4, 5, 6))  # convolutions, before a pooling each
# Means and deviations of ImageNet's channels, for pictures in [-1, 1].
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
PERCEPTUAL_FILE = "lpips.safetensors"

Weights = dict[str, Array]


def load_perceptual(path: Path) -> Weights:
    """The weights `conv{i}.kernel`, `conv{i}.bias` and `stage{i}.weight` of a safetensors file.

    Raises FileNotFoundError, or CheckpointError for a file with other tensors.
    """
    tensors, _ = read_header(path)
    layers = [layer for stage in STAGES for layer in stage]
    wanted = {f"conv{layer}.{name}" for layer in layers for name in ("kernel", "bias")}
    wanted |= {f"stage{number}.weight" for number in range(len(STAGES))}
    if tensors.keys() != wanted:
        raise CheckpointError(
            f"{path} is not LPIPS: expected {len(wanted)} tensors such as conv0.kernel, it holds "
            f"{', '.join(sorted(tensors)[:4]) or 'none'}; make it with uno-convert lpips --dst DIR"
        )
    return {name: jnp.asarray(tensor.read(), jnp.float32) for name, tensor in tensors.items()}


def perceptual_distance(
    weights: Weights, one: Float[Array, "b h w 3"], other: Float[Array, "b h w 3"], dtype: DTypeLike
) -> Float[Array, ""]:
    """The mean distance of pictures in [-1, 1]."""
    total = jnp.zeros(())
    for number, (first, second) in enumerate(
        zip(_features(weights, one, dtype), _features(weights, other, dtype), strict=True)
    ):
        squared = jnp.square(first - second)
        total += jnp.mean(squared @ weights[f"stage{number}.weight"])
    return total


def _features(weights: Weights, image: Float[Array, "b h w 3"], dtype: DTypeLike) -> list[Array]:
    """The output of each stage, every cell of length 1."""
    x: Array = ((image - jnp.array(SHIFT)) / jnp.array(SCALE)).astype(dtype)
    found = []
    for number, stage in enumerate(STAGES):
        if number:
            x = jax.lax.reduce_window(
                x, np.array(-np.inf, x.dtype), jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
            )
        for layer in stage:
            kernel, bias = weights[f"conv{layer}.kernel"], weights[f"conv{layer}.bias"]
            x = jax.lax.conv_general_dilated(
                x, kernel.astype(dtype), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.relu(x + bias.astype(dtype))
        wide = x.astype(jnp.float32)
        found.append(wide * jax.lax.rsqrt(jnp.sum(wide**2, -1, keepdims=True) + 1e-10))
    return found
