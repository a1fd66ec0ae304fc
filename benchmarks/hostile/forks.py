"""A process that imports commands once and runs each case in a fork of itself: python -m …forks MODULE…

It reads a job as a line of JSON from its input and answers with one on its output, as `process.Server` asks.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

POLL = 0.02  # seconds
LONGEST_LOOK = 0.5  # seconds; between two looks that are further apart this process itself was kept waiting
GRACE = (5.0, 5.0)  # seconds to leave in after a first and after a second SIGINT
PAGE, TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
FILE_BYTES = 1 << 30
# Before each case: threads do not survive a fork, so that nothing may start one at import.
HEAVY = ("torch", "transformers", "diffusers")


def module_of(command: str) -> str:
    """The module with a command's main: of a package its __main__."""
    spec = importlib.util.find_spec(command)
    return f"{command}.__main__" if spec and spec.submodule_search_locations else command


def load(commands: list[str]) -> None:
    """Imports commands, and for tools what they import later."""
    for command in commands:
        importlib.import_module(module_of(command))
        if command.startswith("tools."):
            for name in HEAVY:
                importlib.import_module(name)


def serve() -> dict[str, Any] | None:
    """Runs jobs until the input ends; in a fork the job that this process is to become."""
    gc.collect()
    gc.freeze()  # what is there already stays shared
    print(json.dumps({"threads": len(os.listdir("/proc/self/task"))}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        if not (pid := os.fork()):
            return job
        print(json.dumps(watch(pid, job)), flush=True)
    return None


def become(job: dict[str, Any]) -> None:
    """This process is the case's: its own group, limits, folder and files, then the command's main."""
    os.setpgid(0, 0)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
    limit_memory = used + job["memory"]
    for kind, most in (
        (resource.RLIMIT_AS, limit_memory),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    os.chdir(job["folder"])
    redirect(job)
    words = job["words"]
    if job["fresh"]:
        start = [sys.executable, "-m", job["command"], *words]
        os.execve(sys.executable, [os.fsencode(word) for word in start], job["env"])
    sys.argv = [job["command"], *words]
    leave_with(functools.partial(importlib.import_module(module_of(job["command"])).main, words))


def leave_with(main: Callable[[], object]) -> None:
    """Runs `main` and ends the process as Python does, but without taking every module apart, which would
    touch and so copy all of the memory that the fork shares.
    """
    try:
        code = main()
    except SystemExit as stop:
        code = stop.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = "failed"
    threading._shutdown()
    atexit._run_exitfuncs()
    status = 1 if isinstance(code, str) else code or 0
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        status = 120
    sys.stderr.flush()
    os._exit(status)


def redirect(job: dict[str, Any]) -> None:
    """Input from nowhere, output and errors to files, or the output to where the job says."""
    files = {0: os.open(os.devnull, os.O_RDONLY), 2: _written(job["err"])}
    match job["stdout"]:
        case "unread":
            reader, files[1] = os.pipe()
            os.close(reader)
        case "closed":
            os.close(1)
        case place:
            files[1] = _written(place or job["out"])
    for number, file in files.items():
        os.dup2(file, number)
        os.close(file)


def _written(place: str) -> int:
    return os.open(place, os.O_WRONLY | os.O_CREAT)


def watch(pid: int, job: dict[str, Any]) -> dict[str, Any]:
    """Waits for a case, and stops it where it is over its time or memory. How it ended."""
    clock, most, stopped, asked, until = Clock(), 0, "", 0, job["seconds"]
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        tree = list(processes_of(pid))
        clock.look(tree)
        most = max(most, sum(each.memory for each in tree))
        late = clock.spent > until
        if most <= job["memory"] and late and job["works"] and asked < len(GRACE):
            stopped, until = "asked", clock.spent + GRACE[asked]
            asked += 1
            _signal(pid, signal.SIGINT)
        elif most > job["memory"] or late:
            stopped = "memory" if most > job["memory"] else "time"
            _signal(pid, signal.SIGKILL)
            ended = os.waitpid(pid, 0)
            break
        time.sleep(POLL)
    _signal(pid, signal.SIGKILL)  # what it started and left
    code = os.waitstatus_to_exitcode(ended[1])
    return {"code": code, "stopped": stopped, "seconds": clock.spent, "memory": most}


class Process(NamedTuple):
    """What one look at a process shows: seconds of CPU, resident bytes, whether it could run or was
    stopped by someone else.
    """

    seconds: float
    memory: int
    ready: bool


class Clock:
    """A case's time: its seconds of CPU, and those in which it waited for something else than a CPU, so that
    a busy machine makes no case late.
    """

    def __init__(self) -> None:
        self.busy = self.idle = 0.0
        self.last = time.monotonic()

    def look(self, tree: list[Process]) -> None:
        """Adds what has passed since the last look."""
        now, busy = time.monotonic(), sum(each.seconds for each in tree)
        if busy <= self.busy and not any(each.ready for each in tree):
            self.idle += min(now - self.last, LONGEST_LOOK)
        self.busy, self.last = max(busy, self.busy), now

    @property
    def spent(self) -> float:
        """Seconds."""
        return self.busy + self.idle


def processes_of(pid: int) -> Iterator[Process]:
    """A process and all that it started."""
    try:
        tasks = [Path(f"/proc/{pid}/task/{task}") for task in os.listdir(f"/proc/{pid}/task")]
        stats = [(task / "stat").read_text().rpartition(")")[2].split() for task in tasks]
        started = [int(child) for task in tasks for child in (task / "children").read_text().split()]
        memory = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
        total = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        return
    yield Process((int(total[11]) + int(total[12])) / TICKS, memory, any(stat[0] in "RT" for stat in stats))
    for child in started:
        yield from processes_of(child)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


if __name__ == "__main__":
    load(sys.argv[1:])
    if (mine := serve()) is not None:
        become(mine)
