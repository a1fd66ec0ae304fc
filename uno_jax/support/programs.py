"""Programs that a command starts, which do not outlive it."""

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

from uno_jax.support.errors import RecipeError


def run_program(what: str, module: str, *arguments: str) -> None:
    """Runs one of the project's programs.

    Raises RecipeError when it fails.
    """
    command = [sys.executable, "-m", module, *arguments]
    print(f"{what}: {' '.join(command[1:])}", flush=True)
    with started(command) as program:
        code = program.wait()
    if code:
        raise RecipeError(f"{what} failed with code {code}; the same command continues from there")


@contextlib.contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Starts a program and waits for its end, also when interrupted, since a training saves first. SIGTERM
    and SIGHUP, which reach this process alone, are passed on and then interrupt it as Ctrl-C does, which a
    terminal sends to both.
    """
    with subprocess.Popen(command, **options) as program, _passing_on(program):
        try:
            yield program
        except KeyboardInterrupt:
            program.communicate()  # reads what it writes, so that no full pipe holds it
            raise


@contextlib.contextmanager
def _passing_on(program: subprocess.Popen[Any]) -> Iterator[None]:
    """Outside the main thread, where Python allows no handlers, and for ignored signals it does nothing."""

    def pass_on(number: int, _: FrameType | None) -> None:
        program.send_signal(number)
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    before = {
        number: signal.signal(number, pass_on)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if main and signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
