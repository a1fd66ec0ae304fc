"""Ctrl-C (SIGINT), SIGTERM and SIGHUP as a request to save and stop; a second Ctrl-C ends at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

STDERR = 2
NOTICE = b"\nstopping: this step is finished and saved first; Ctrl-C (again) ends at once\n"


@contextlib.contextmanager
def stop_signal() -> Iterator[Callable[[int], bool]]:
    """A function that says whether to stop after a step: once one of the signals has arrived, the run saves
    and exits with code 0. Several processes, of which one may have received it, agree on the step.

    Python runs handlers between two calls, so a compilation that has begun is finished first.
    """
    if jax.distributed.is_initialized():
        # jax listens for SIGTERM by itself, and for no other signal.
        with _handled(lambda: os.kill(os.getpid(), signal.SIGTERM), signal.SIGINT, signal.SIGHUP):
            yield multihost_utils.reached_preemption_sync_point
        return
    stopping = threading.Event()
    with _handled(stopping.set, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield lambda _: stopping.is_set()


@contextlib.contextmanager
def _handled(stop: Callable[[], None], *signals: signal.Signals) -> Iterator[None]:
    """Calls `stop` for the signals, except for those that are ignored, as by nohup."""
    heard = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]

    def handle(*_: object) -> None:
        stop()
        if signal.SIGINT in heard:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.write(STDERR, NOTICE)  # not print, which may be what was interrupted

    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
