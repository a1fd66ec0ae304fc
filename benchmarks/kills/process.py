"""A command in a forked child, which ends by itself or at a chosen moment.

The parent has imported the programs and started neither JAX's backend nor a thread of its own, so that a
child starts at once and is otherwise like a program that was started anew.
"""

import atexit
import contextlib
import json
import mmap
import os
import random
import select
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

TIMEOUT = 300.0
HUNG = 124  # the status of a run that was not over by then
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}


class Moment(NamedTuple):
    """When a run gets its signal: `seconds` after its start or, when `operation` is not 0, `seconds` after it
    has begun that many changes in the file system.
    """

    number: int
    seconds: float
    operation: int = 0


class Ended(NamedTuple):
    """How a run ended: its exit status, HUNG, or the signal's negative number."""

    code: int
    seconds: float
    operations: int
    output: str


def run(
    command: Callable[[], object],
    place: Path,
    log: Path,
    moment: Moment | None = None,
    limit: float = TIMEOUT,
) -> Ended:
    """Runs `command` in a child, whose changes of files below `place` are counted."""
    counter, start, hung = mmap.mmap(-1, 8), time.monotonic(), False
    sys.stdout.flush()
    sys.stderr.flush()
    if (child := os.fork()) == 0:
        _become(command, place, log, Counted(counter, str(place), moment))
    with contextlib.suppress(ProcessLookupError):
        os.setpgid(child, child)
    pid = os.pidfd_open(child)
    try:
        if moment and not moment.operation and not _over(pid, moment.seconds):
            _send(child, moment.number)
        if not _over(pid, limit):
            hung = True
            _send(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    finally:
        _send(child, signal.SIGKILL)  # the programs that it started
        os.close(pid)
    seconds, output = time.monotonic() - start, log.read_text(errors="replace")
    code = HUNG if hung else os.waitstatus_to_exitcode(status)
    return Ended(code, seconds, struct.unpack("q", counter)[0], output)


def call(function: Callable[[], Any], folder: Path) -> Any:
    """What `function` returns in a child, a JSON value.

    Raises RuntimeError with its output when it fails.
    """
    result, log = folder / "result.json", folder / "call.log"
    ended = run(lambda: result.write_text(json.dumps(function())), folder / "nowhere", log)
    if ended.code:
        raise RuntimeError(f"exit {ended.code}: {ended.output[-3000:]}")
    return json.loads(result.read_text())


class Counted:
    """An audit hook that counts what begins to change files below a folder, in all processes of a run, and
    sends the run its signal at the chosen one.
    """

    def __init__(self, counter: mmap.mmap, place: str, moment: Moment | None):
        self.counter, self.place, self.moment = counter, place, moment

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            if not (isinstance(args[2], int) and args[2] & WRITES):
                return
        elif event not in CHANGES:
            return
        if not isinstance(args[0], str | bytes | os.PathLike) or not os.fsdecode(args[0]).startswith(
            self.place
        ):
            return
        (count,) = struct.unpack("q", self.counter)
        self.counter[:] = struct.pack("q", count + 1)
        if self.moment and self.moment.operation == count + 1:
            if self.moment.seconds:
                threading.Timer(self.moment.seconds, self.send).start()
            else:
                self.send()

    def send(self) -> None:
        assert self.moment is not None
        if self.moment.number == signal.SIGKILL:
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), self.moment.number)


def _become(command: Callable[[], object], place: Path, log: Path, hook: Counted) -> NoReturn:
    """Runs the command as a program of its own and exits."""
    code = 1
    try:
        os.setpgid(0, 0)
        null = os.open(os.devnull, os.O_RDONLY)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for old, new in ((null, 0), (file, 1), (file, 2)):
            os.dup2(old, new)
        if hook.moment is None or hook.moment.operation:
            sys.addaudithook(hook)
        code = exit_code(command)
    finally:
        os._exit(code)


def exit_code(command: Callable[[], object]) -> int:
    """The status that a program which is only this command would end with, all its ends tied up."""
    code = 0
    try:
        command()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _over(pid: int, seconds: float) -> bool:
    return bool(select.select([pid], [], [], seconds)[0])


def _send(child: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if number == signal.SIGKILL else os.kill)(child, number)


def choose_moment(rng: random.Random, number: int, whole: Ended) -> Moment:
    """A moment of a run like `whole`: a third by its time, a third at one of the changes that it makes to
    files, and a third shortly after one, while something is being written.
    """
    kind = rng.randrange(3) if whole.operations else 0
    if kind == 0:
        return Moment(number, rng.uniform(0, whole.seconds))
    return Moment(number, 0.0 if kind == 1 else rng.uniform(0, 0.05), rng.randint(1, whole.operations))
