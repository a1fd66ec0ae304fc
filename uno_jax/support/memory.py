"""Memory that can be had here, and the refusal of what cannot fit into it, before anything is loaded."""

import contextlib
import ctypes
import resource
from pathlib import Path

import jax

from uno_jax.support.errors import RecipeError

GIB = 1 << 30
RECLAIMED = ("inactive_file", "active_file", "slab_reclaimable")


def refuse_beyond_memory(need: int, what: str, advice: str, free: int | None = None) -> None:
    """Raises RecipeError where `what` needs more bytes than are `free`: by default than `free_bytes`."""
    free = free_bytes() if free is None else free
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
    found = free_machine_bytes()
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if found is None or limit == resource.RLIM_INFINITY:
        return found
    return min(found, limit - (_fields("/proc/self/status")["VmSize"] << 10))


def free_machine_bytes() -> int | None:
    """Bytes that this and further processes can still get from Linux, swap included; None elsewhere."""
    try:
        machine = _fields("/proc/meminfo")
        swap = machine["SwapFree"] << 10
        found = (machine["MemAvailable"] << 10) + swap
    except (OSError, KeyError):
        return None
    with contextlib.suppress(OSError, KeyError, ValueError):  # no control group, or without limit: "max"
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        given_back = sum(_fields(group / "memory.stat")[name] for name in RECLAIMED)
        found = min(found, limit - int((group / "memory.current").read_text()) + given_back + swap)
    return found


def trim_heap() -> None:
    """Gives memory that the C library holds for later back to Linux; without glibc nothing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _fields(path: str | Path) -> dict[str, int]:
    """The numbers of a file of /proc or of a control group by name."""
    words = (line.replace(":", "").split() for line in Path(path).read_text().splitlines())
    return {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdecimal()}
