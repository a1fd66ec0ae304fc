"""The number formats that a frozen base can be held in (`networks.quantize`), and where each works."""

import importlib.util
from typing import Literal

import jax

from uno_jax.costs.devices import multiplies_float8

Base = Literal["", "int8", "fp8", "fp8-products"]


def check_base(base: str, device: jax.Device) -> None:
    """Raises ValueError where models with this base do not run on `device`, or a package is missing."""
    if base and importlib.util.find_spec("qwix") is None:
        raise ValueError(f"base {base} needs qwix: pip install 'uno_jax[quant]'")
    if base == "fp8-products" and device.platform != "cpu" and not multiplies_float8(device):
        raise ValueError(
            f"base fp8-products needs a chip that multiplies in float8 (NVIDIA's from compute capability 8.9 "
            f"on, TPU v7), and {device.device_kind} does not: take int8 or fp8, which hold weights in 8 bits"
        )
