"""The device and its software, and the two rates that everything else is compared with."""

import importlib.metadata
import os
import subprocess

import jax
import jax.numpy as jnp

from benchmarks.gpu.bench import COPY, H100_PEAK, PRODUCT, Bench
from uno_jax.support.memory import GIB

PACKAGES = ("jax", "jaxlib", "jax-cuda13-plugin", "jax-cuda12-plugin", "flax", "torch", "diffusers", "qwix")
QUERY = "name,memory.total,driver_version,clocks.sm,clocks.max.sm,power.limit,temperature.gpu"


def run(bench: Bench) -> None:
    device = jax.devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    bench.record("device", value=f"{device.platform}: {device.device_kind}, {len(jax.devices())} of them")
    bench.record("memory JAX may use, GiB", value=limit / GIB if limit else None)
    bench.record("XLA_FLAGS", value=os.environ.get("XLA_FLAGS", "none"))
    bench.record("packages", value=", ".join(f"{name} {version(name)}" for name in PACKAGES))
    bench.record("libraries", value=", ".join(libraries()))
    bench.record("nvidia-smi, idle", value=nvidia_smi())
    product(bench, 8192 if bench.full else 256)
    bench.record("nvidia-smi, after the products", value=nvidia_smi())
    copy(bench, 2**31 if bench.full else 2**20)


def product(bench: Bench, side: int) -> None:
    """Products of random bfloat16 matrices."""
    left, right = (jax.random.normal(jax.random.key(i), (side, side), jnp.bfloat16) for i in range(2))
    multiply = jax.jit(jnp.matmul)
    ms = bench.ms(lambda: multiply(left, right), rounds=20, calls=10)
    rate = 2 * side**3 / ms / 1e9
    figures = {"ms": ms, "TFLOP/s": rate, "of_data_sheet_%": 100 * rate / H100_PEAK}
    bench.record(PRODUCT, value=f"{side}³", **figures)


def copy(bench: Bench, size: int) -> None:
    """Reading and writing random bytes."""
    source = jax.random.bits(jax.random.key(0), (size // 4,), jnp.uint32)
    negate = jax.jit(jnp.invert)
    ms = bench.ms(lambda: negate(source), rounds=20, calls=4)
    bench.record(COPY, value=f"{size / GIB:.2f} GiB read and written", ms=ms, **{"TB/s": 2 * size / ms / 1e9})


def nvidia_smi() -> str:
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return f"no answer ({type(error).__name__})"


def version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def libraries() -> list[str]:
    """NVIDIA's packages and their versions."""
    found = {
        dist.name: dist.version
        for dist in importlib.metadata.distributions()
        if dist.name and dist.name.startswith(("nvidia-cudnn", "nvidia-cublas", "nvidia-cuda-runtime"))
    }
    return [f"{name} {number}" for name, number in sorted(found.items())] or ["none of NVIDIA's"]
