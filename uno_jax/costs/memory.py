"""Memory that can be had here, and the refusal of what cannot fit into it, before anything is loaded."""

import contextlib
import resource
from pathlib import Path

import jax

from uno_jax.costs.chips import GIB
from uno_jax.support.errors import RecipeError


def refuse_beyond_memory(need: int, what: str, advice: str) -> None:
    """Raises RecipeError where `what` needs more bytes than all of the run's devices have."""
    free = free_bytes()
    if free is not None and need > free:
        least, most = (f"{max(size, 0) / GIB:,.2f} GiB" for size in (need, free))
        raise RecipeError(f"{what} take at least {least} of memory, and {most} are free: {advice}")


def free_bytes() -> int | None:
    """Bytes that a run's devices can still give: of accelerators what JAX may use of all of them, of a CPU
    the machine's free memory within the limits of this process, for each process. None if it is not known.
    """
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        free = free_host_bytes()
        return None if free is None else free * jax.process_count()
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return None if limit is None else limit * jax.device_count()


def free_host_bytes() -> int | None:
    """Bytes that this process can still get from Linux; None elsewhere."""
    found = []
    with contextlib.suppress(OSError):
        found.append(_kilobytes("/proc/meminfo", "MemAvailable"))
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            found.append(limit - _kilobytes("/proc/self/status", "VmSize"))
    with contextlib.suppress(OSError, ValueError):  # no limit of a control group, which reads "max"
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        found.append(limit - int((group / "memory.current").read_text()) + _reclaimable(group))
    return min(found, default=None)


def _kilobytes(path: str, field: str) -> int:
    """A field of a file of /proc, in bytes."""
    lines = Path(path).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) << 10


def _reclaimable(group: Path) -> int:
    """Bytes of cached files, which Linux gives back when they are needed."""
    fields = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return int(fields.get("inactive_file", 0)) + int(fields.get("active_file", 0))
