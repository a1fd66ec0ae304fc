"""The devices a program can be planned for: local ones, a TPU topology through libtpu's compiler, or NVIDIA
GPUs through XLA's. None of these needs the hardware.
"""

import importlib.util
import math
import os
import re

import jax
from jax.experimental import topologies

from uno_jax.costs.chips import TPUS, Chip
from uno_jax.costs.gpus import CARDS, FORMS, PLUGINS, installed_versions, target_config
from uno_jax.support.memory import GIB

MOST_GPUS = 1024


class PlanError(ValueError):
    """A plan cannot be made with these arguments; the message says what to change."""


def find_devices(where: str) -> list[jax.Device]:
    """The devices of "local", of a TPU topology such as v5p:2x2x1, or of GPUs such as h100 or h100:8.

    Programs for hardware that is not here are compiled on the CPU, so call this before JAX has initialised
    its devices.

    Raises PlanError for unknown hardware or a missing compiler.
    """
    if where == "local":
        return list(jax.local_devices())
    name, _, grid = where.partition(":")
    if name in CARDS:
        return _gpus(where, name, grid)
    chips = [chip.name for chip in TPUS.values()]
    if name not in chips or not grid:
        raise PlanError(
            f"--plan {where}: expected local, a TPU ({', '.join(chips)}) with its grid, such as v5p:2x2x1, "
            f"or a GPU ({', '.join(CARDS)}) with the number of them if it is not 1, such as h100:8"
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


def find_chips(where: str) -> tuple[Chip, int]:
    """The chip and the number of them that `find_devices` would give for hardware that is not here, without a
    compiler for it; for "local" those here.

    Raises PlanError for unknown hardware.
    """
    if where == "local":
        return chip_of(jax.local_devices()[0]), len(jax.local_devices())
    name, _, grid = where.partition(":")
    known = {chip.name: chip for chip in TPUS.values()} | {card: each.chip for card, each in CARDS.items()}
    sides = re.fullmatch(r"\d+(x\d+)*" if name not in CARDS else r"\d*", grid)
    if name not in known or sides is None:
        raise PlanError(
            f"--plan {where}: expected local, or one of {', '.join(known)}, with its grid or number, such as "
            "v5p:2x2x1 or h100:8"
        )
    return known[name], math.prod(int(side) for side in (grid or "1").split("x"))


def _gpus(where: str, name: str, count: str) -> list[jax.Device]:
    if not (count or "1").isdecimal() or not 1 <= int(count or 1) <= MOST_GPUS:
        raise PlanError(f"--plan {where}: expected 1 to {MOST_GPUS} GPUs, such as {name}:8")
    if not any(importlib.util.find_spec(plugin) for plugin in PLUGINS):
        raise PlanError(
            "planning for a GPU needs XLA's compiler for them: pip install 'jax[cuda13]' (extra: plan-gpu)"
        )
    jax.config.update("jax_platforms", "cpu")
    topology = topologies.get_topology_desc(
        platform="cuda", target_config=target_config(CARDS[name]), topology=f"1x1x{count or 1}"
    )
    return list(topology.devices)


def assumptions(device: jax.Device) -> str:
    """What a plan for hardware that is not here was compiled for; empty for what needs no saying."""
    if device.platform != "gpu":
        return ""
    versions = {name: ".".join(map(str, version)) for name, version in installed_versions().items()}
    return (
        f"compiled for CUDA {versions['cuda']} with cuDNN {versions['cudnn']}, products by cuBLAS, not tuned"
    )


def compiler_options(device: jax.Device) -> dict[str, bool]:
    """Without a GPU to try them on, XLA would choose Triton's products; a GPU mostly chooses cuBLAS's."""
    return {"xla_gpu_enable_triton_gemm": False} if device.platform == "gpu" else {}


def multiplies_float8(device: jax.Device) -> bool:
    """Whether a device, here or only compiled for, has products of float8 numbers: NVIDIA's from Ada
    (compute capability 8.9) on, and TPUs from v7 on.
    """
    if device.platform == "gpu":
        return _capability(device) >= (8, 9)
    generation = re.match(r"TPU ?v?(\d+)", device.device_kind)
    return device.platform == "tpu" and generation is not None and int(generation.group(1)) >= 7


def attends_in_float8(device: jax.Device) -> bool:
    """Whether cuDNN has an attention of float8 numbers for a device: NVIDIA's of compute capability 9
    (Hopper) and 10.
    """
    return device.platform == "gpu" and (9, 0) <= _capability(device) < (11, 0)


def _capability(device: jax.Device) -> tuple[int, ...]:
    return tuple(map(int, device.compute_capability.split(".")))


def chip_of(device: jax.Device) -> Chip:
    """Memory and rates of a device: looked up by name for a TPU or GPU; a CPU has the machine's memory."""
    kind = device.device_kind
    if device.platform == "tpu":
        return TPUS.get(kind, Chip(kind, None, None))
    if device.platform == "gpu":
        known = gpu_named(kind)
        return known._replace(memory=_usable(device) or known.memory)
    return Chip(kind, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, None)


def gpu_named(kind: str) -> Chip:
    """The card of that name. Other forms of a card, such as an H100 for PCIe, have other memories and rates:
    of those only the card's peak is given, which they do not exceed.
    """
    for card in CARDS.values():
        if re.fullmatch(rf"{re.escape(card.name)}( \w+ Edition)?", kind):
            return card.chip
    peak = next((CARDS[card].peak for form, card in FORMS.items() if form in kind), None)
    return Chip(kind, None, peak)


def _usable(device: jax.Device) -> float | None:
    """GiB that JAX may use of a GPU that is here."""
    try:
        return (device.memory_stats() or {}).get("bytes_limit", 0) / GIB or None
    except jax.errors.JaxRuntimeError:  # only compiled for
        return None
