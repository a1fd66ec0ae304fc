"""The chips a program can be planned for: local devices, or a TPU topology through libtpu's compiler, which
needs no TPU.
"""

import importlib.util
import os
from typing import NamedTuple

import jax
from jax.experimental import topologies

GIB = 2**30


class PlanError(ValueError):
    """A plan cannot be made with these arguments; the message says what to change."""


class Chip(NamedTuple):
    """A chip's limits that a plan is compared with; None where the figure is not known here."""

    name: str
    memory: float | None
    """GiB that a program may use."""
    peak: float | None
    """Dense bfloat16 TFLOP/s."""


# By JAX's device_kind. Memory: what libtpu's compiler allows (the data sheets say 16, 95 and 32 GB). Peaks:
# the data sheets at cloud.google.com/tpu/docs and nvidia.com.
TPUS = {
    "TPU v5 lite": Chip("v5e", 15.75, 197),
    "TPU v5": Chip("v5p", 95.73, 459),
    "TPU v6 lite": Chip("v6e", 31.24, 918),
}
GPU_PEAKS = {"A100": 312, "H100": 989, "H200": 989}


def find_devices(where: str) -> list[jax.Device]:
    """The devices of "local", or of a TPU topology such as v5p:2x2x1.

    Programs for a topology are compiled on the CPU, so call this before JAX has initialised its devices.

    Raises PlanError for an unknown topology or a missing libtpu.
    """
    if where == "local":
        return list(jax.local_devices())
    names = ", ".join(chip.name for chip in TPUS.values())
    if where.split(":")[0] not in [chip.name for chip in TPUS.values()] or ":" not in where:
        raise PlanError(
            f"--plan {where}: expected local, or a chip ({names}) with its grid, such as v5p:2x2x1"
        )
    if importlib.util.find_spec("libtpu") is None:
        raise PlanError("planning for a TPU needs its compiler: pip install libtpu (extra: plan)")
    jax.config.update("jax_platforms", "cpu")
    # Do not query a metadata server for a TPU that is absent, and allow several plans at once.
    os.environ |= {
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-1",
        "TPU_WORKER_HOSTNAMES": "localhost",
    }
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=where).devices)
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        raise PlanError(f"--plan {where} is not a topology of that chip: {reason}") from None


def chip_of(device: jax.Device) -> Chip:
    """Memory and peak of a device: looked up by name for a TPU or GPU; a CPU has the machine's memory."""
    kind = device.device_kind
    if device.platform == "tpu":
        return TPUS.get(kind, Chip(kind, None, None))
    if device.platform == "gpu":
        peak = next((peak for name, peak in GPU_PEAKS.items() if name in kind), None)
        return Chip(kind, (device.memory_stats() or {}).get("bytes_limit", 0) / GIB or None, peak)
    return Chip(kind, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, None)
