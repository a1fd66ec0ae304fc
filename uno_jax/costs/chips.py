"""The rates and memories of chips that programs are planned for."""

from typing import NamedTuple


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


class Reached(NamedTuple):
    """Shares of a data sheet's rates."""

    products: float
    bandwidth: float


REACHED = Reached(0.73, 0.86)  # of an H100, measured: 721 TFLOP/s and 2.88 TB/s (docs/benchmarks.md)
# By JAX's device_kind. Memory: what libtpu's compiler allows (the data sheets say 16, 95 and 32 GB). Rates:
# the data sheets at cloud.google.com/tpu/docs.
TPUS = {
    "TPU v5 lite": Chip("v5e", 15.75, 197, 819, 100),
    "TPU v5": Chip("v5p", 95.73, 459, 2765, 300),
    "TPU v6 lite": Chip("v6e", 31.24, 918, 1640, 224),
}
