"""The rates and memories of chips that programs are planned for."""

from typing import NamedTuple


class Reached(NamedTuple):
    """Shares of a data sheet's rates that kernels reach."""

    products: float
    attention: float
    bandwidth: float


# Measured (docs/benchmarks.md): 721 TFLOP/s in products and 2.88 TB/s on an H100, 551 TFLOP/s in cuDNN's
# attention on an H200. Nothing was measured on a TPU, where attention is taken to be as fast as products.
GPU_REACHED = Reached(products=0.73, attention=0.56, bandwidth=0.86)
TPU_REACHED = GPU_REACHED._replace(attention=0.73)


class Chip(NamedTuple):
    """A chip's limits that a plan is compared with; None where the figure is not known here."""

    name: str
    memory: float | None
    """GiB that a program may use."""
    peak: float | None
    """Dense bfloat16 TFLOP/s."""
    bandwidth: float | None = None
    """GB/s of the main memory."""
    link: float | None = None
    """GB/s to other chips, in one direction."""
    reached: Reached = GPU_REACHED


# By JAX's device_kind. Memory: what libtpu's compiler allows (the data sheets say 16, 95 and 32 GB). Rates:
# the data sheets at cloud.google.com/tpu/docs.
TPUS = {
    "TPU v5 lite": Chip("v5e", 15.75, 197, 819, 100, TPU_REACHED),
    "TPU v5": Chip("v5p", 95.73, 459, 2765, 300, TPU_REACHED),
    "TPU v6 lite": Chip("v6e", 31.24, 918, 1640, 224, TPU_REACHED),
}
