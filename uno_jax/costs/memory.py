"""Memory that can be had here, and the refusal of what cannot fit into it, before anything is loaded."""

import contextlib
import resource
from pathlib import Path

import jax

from uno_jax.costs.chips import GIB
from uno_jax.support.errors import RecipeError

RECLAIMED = ("inactive_file", "active_file", "slab_reclaimable")


def refuse_beyond_memory(need: int, what: str, advice: str, on_host: bool = False) -> None:
    """Raises RecipeError where `what` needs more bytes than all of the run's devices have, or this process's
    host.
    """
    free = free_host_bytes() if on_host else free_bytes()
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
    """Bytes that this process can still get from Linux, swap included; None elsewhere."""
    found = []
    with contextlib.suppress(OSError, KeyError):
        machine = _fields("/proc/meminfo")
        swap = machine["SwapFree"] << 10
        found.append((machine["MemAvailable"] << 10) + swap)
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            found.append(limit - (_fields("/proc/self/status")["VmSize"] << 10))
        group = Path("/sys/fs/cgroup")
        with contextlib.suppress(ValueError):  # no limit of a control group, which reads "max"
            limit = int((group / "memory.max").read_text())
            given_back = sum(_fields(group / "memory.stat")[name] for name in RECLAIMED)
            found.append(limit - int((group / "memory.current").read_text()) + given_back + swap)
    return min(found, default=None)


def _fields(path: str | Path) -> dict[str, int]:
    """The numbers of a file of /proc or of a control group by name."""
    words = (line.replace(":", "").split() for line in Path(path).read_text().splitlines())
    return {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdecimal()}
