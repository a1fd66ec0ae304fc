"""A file system in memory that is too small, where the commands run as root."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.kills.process import Ended

ENOUGH = 512 << 20
PAGE = 4096


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Callable[[int], None]]:
    """Mounts it at a folder; yields what sets its size in bytes.

    Raises CalledProcessError where mounting is not permitted.
    """
    mount(place, f"size={ENOUGH}")
    try:
        yield lambda nbytes: mount(place, f"remount,size={max(nbytes, PAGE)}")
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def mount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True, capture_output=True)


def used(folder: Path) -> int:
    """Bytes of whole pages, as such a file system counts them."""
    sizes = (path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return sum(-(-size // PAGE) * PAGE for size in sizes) + PAGE


def faults_of(ended: Ended, room: int) -> list[str]:
    """What is wrong with the end of a command for which there was so much room: anything but success and one
    line of an error.
    """
    lines = [line for line in ended.output.splitlines() if "error:" in line]
    fine = ended.code == 0 or ended.code == 2 and len(lines) == 1
    if fine and "Traceback" not in ended.output:
        return []
    return [f"with {room} bytes of disk, exit {ended.code}: {ended.output[-3000:]}"]
