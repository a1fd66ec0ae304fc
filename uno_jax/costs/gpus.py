"""NVIDIA GPUs as data: what XLA's compiler asks of a card, so that programs are compiled for it without one.

XLA's own descriptions (openxla/xla, `xla/backends/gpu/target_config/specs`, Apache 2.0) give the numbers of
A100, H100, H200, B200, RTX A6000 and RTX PRO 6000; NVIDIA's architecture white papers (Ada, Blackwell) and
CUDA's table of compute capabilities those of the others. Rates are those of the data sheets: dense bfloat16
with sums in float32. Links: NVLink in one direction, else PCIe.
"""

import importlib.metadata
from typing import NamedTuple

from uno_jax.costs.chips import Chip
from uno_jax.support.memory import GIB


class Limits(NamedTuple):
    """What the compute capability of a card fixes, per multiprocessor: bytes of shared memory, those that one
    block may ask for, and threads.
    """

    shared: int
    shared_of_block: int
    threads: int
    fpus: int = 128


LIMITS = {
    (8, 0): Limits(167936, 166912, 2048, 64),
    (8, 6): Limits(102400, 101376, 1536),
    (8, 9): Limits(102400, 101376, 1536),
    (9, 0): Limits(233472, 232448, 2048),
    (10, 0): Limits(233472, 232448, 2048),
    (12, 0): Limits(131072, 101376, 1536),
}


class Card(NamedTuple):
    """One card. Memory is what the driver reports, in bytes; rates in TFLOP/s, GB/s and GHz."""

    name: str
    capability: tuple[int, int]
    cores: int
    clock: float
    l2: int
    memory: int
    peak: float
    bandwidth: float
    link: float

    @property
    def chip(self) -> Chip:
        return Chip(self.name, self.memory / GIB, self.peak, self.bandwidth, self.link)


MIB = 2**20
CARDS: dict[str, Card] = {
    "a100-40": Card("NVIDIA A100-SXM4-40GB", (8, 0), 108, 1.41, 40 * MIB, 40960 * MIB, 312, 1555, 300),
    "a100-80": Card("NVIDIA A100-SXM4-80GB", (8, 0), 108, 1.41, 40 * MIB, 85100068864, 312, 2039, 300),
    "a6000": Card("NVIDIA RTX A6000", (8, 6), 84, 1.8, 6 * MIB, 51041271808, 154.8, 768, 32),
    "l4": Card("NVIDIA L4", (8, 9), 58, 2.04, 48 * MIB, 23034 * MIB, 121, 300, 32),
    "l40s": Card("NVIDIA L40S", (8, 9), 142, 2.52, 96 * MIB, 46068 * MIB, 362, 864, 32),
    "rtx4080": Card("NVIDIA GeForce RTX 4080", (8, 9), 76, 2.505, 64 * MIB, 16376 * MIB, 97.5, 717, 32),
    "rtx4090": Card("NVIDIA GeForce RTX 4090", (8, 9), 128, 2.52, 72 * MIB, 24564 * MIB, 165.2, 1008, 32),
    "h100": Card("NVIDIA H100 80GB HBM3", (9, 0), 132, 1.98, 50 * MIB, 84942979072, 989, 3352, 450),
    "h200": Card("NVIDIA H200", (9, 0), 132, 1.98, 50 * MIB, 143771 * MIB, 989, 4800, 450),
    "b200": Card("NVIDIA B200", (10, 0), 148, 1.965, 132644864, 183359 * MIB, 2250, 7672, 900),
    "rtx5090": Card("NVIDIA GeForce RTX 5090", (12, 0), 170, 2.41, 96 * MIB, 32607 * MIB, 209.5, 1792, 64),
    "rtxpro6000": Card(
        "NVIDIA RTX PRO 6000 Blackwell", (12, 0), 188, 2.6, 128 * MIB, 97887 * MIB, 503.8, 1792, 64
    ),
}
FORMS = {"A100": "a100-40", "H100": "h100", "H200": "h200"}  # part of a device's name -> the card
PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")


def installed_versions() -> dict[str, tuple[int, int, int]]:
    """Versions of cuDNN and of CUDA's runtime that programs are compiled for: those of the installed wheels.

    Raises PackageNotFoundError where there are none.
    """
    try:
        return {"cudnn": _version("nvidia-cudnn-cu13"), "cuda": _version("nvidia-cuda-runtime")}
    except importlib.metadata.PackageNotFoundError:
        return {"cudnn": _version("nvidia-cudnn-cu12"), "cuda": _version("nvidia-cuda-runtime-cu12")}


def _version(package: str) -> tuple[int, int, int]:
    major, minor, patch = map(int, importlib.metadata.version(package).split(".")[:3])
    return major, minor, patch


def target_config(card: Card) -> str:
    """XLA's GpuTargetConfigProto of a card as text, with the installed libraries."""
    limits, versions = LIMITS[card.capability], installed_versions()
    version = {name: "major: {} minor: {} patch: {}".format(*each) for name, each in versions.items()}
    major, minor = card.capability
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: {limits.threads}
  shared_memory_per_block: 49152 shared_memory_per_core: {limits.shared}
  shared_memory_per_block_optin: {limits.shared_of_block}
  core_count: {card.cores} fpus_per_core: {limits.fpus} clock_rate_ghz: {card.clock}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: {card.bandwidth * 10**9:.0f} l2_cache_size: {card.l2} device_memory_size: {card.memory}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ {version["cudnn"]} }}
runtime_version {{ {version["cuda"]} }}
device_description_str: "{card.name}"
"""
