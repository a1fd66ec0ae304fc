"""The number formats that a frozen base can be held in (`networks.quantize`), and where each works."""

import importlib.util
from typing import Literal, get_args

import jax

from uno_jax.costs.devices import attends_in_float8, multiplies_float8

Trained = Literal["", "int8", "fp8", "fp8-products"]
Base = Literal[Trained, "fp8-attention"]


def check_base(base: str, device: jax.Device) -> None:
    """Raises ValueError where models with this base do not run on `device`, or a package is missing."""
    if base not in get_args(Base):
        raise ValueError(f"base must be one of {', '.join(get_args(Base)[1:])} or empty, got {base!r}")
    if base and importlib.util.find_spec("qwix") is None:
        raise ValueError(f"base {base} needs qwix: pip install 'uno_jax[quant]'")
    if device.platform == "cpu":
        return
    if base == "fp8-products" and not multiplies_float8(device):
        raise ValueError(
            f"base fp8-products needs a chip that multiplies in float8 (NVIDIA's from compute capability 8.9 "
            f"on, TPU v7), and {device.device_kind} does not: take int8 or fp8, which hold weights in 8 bits"
        )
    if base == "fp8-attention" and not attends_in_float8(device):
        raise ValueError(
            "base fp8-attention needs cuDNN's attention in float8 (NVIDIA's compute capability 9 or 10), and "
            f"{device.device_kind} has none: take fp8-products where the chip multiplies in float8, or fp8"
        )
