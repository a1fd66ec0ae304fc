"""`--dtype int8`: the kernels that a base in 8 bits replaces, written as `uno_jax.weights.int8` says."""

import importlib.util
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from uno_jax.weights.int8 import scale_path, scale_shape

from . import mapping
from .mapping import ConversionError

INT8 = "int8"


def check_qwix() -> None:
    """Raises ConversionError where the package that quantises is missing."""
    if importlib.util.find_spec("qwix") is None:
        raise ConversionError("kernels in 8 bits need qwix: pip install 'uno_jax[quant]'")


def chosen_kernels(kind: str, shapes: Mapping[mapping.Path, Any]) -> set[mapping.Path]:
    """The paths of a network's kernels that are written in 8 bits.

    Raises as `check_qwix`.
    """
    check_qwix()
    from uno_jax.networks.quantize import is_quantized

    return {path for path, leaf in shapes.items() if is_quantized(kind, path, leaf)}


def stored_shapes(kernel: mapping.Path, leaf: Any) -> dict[mapping.Path, jax.ShapeDtypeStruct]:
    """What is stored for a kernel (l, i, o)."""
    return {kernel: jax.ShapeDtypeStruct(leaf.shape, np.int8), scale_path(kernel): scale_shape(leaf)}


def to_int8(layer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A kernel's layer (i, o) as int8, and its scales (1, o)."""
    from uno_jax.networks.quantize import int8_layer

    with jax.default_device(jax.devices("cpu")[0]):
        qvalue, scale = int8_layer(layer)
    return np.asarray(qvalue), np.asarray(scale)
