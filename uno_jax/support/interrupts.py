"""A second Ctrl-C that ends a command at once, whatever it is busy with."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

STDERR = 2
NO_SIGNAL = b"\0"
NOTICE = b"\nerror: interrupted\n"
_listening = threading.Event()


@contextlib.contextmanager
def second_interrupt_ends() -> Iterator[None]:
    """Within it a second SIGINT ends the process with status 128 + SIGINT. Python runs handlers between two
    calls only, and a compilation or a step on a CPU is one call of minutes; killed commands lose nothing.

    Outside the main thread, and where something else listens already, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    if (before := signal.set_wakeup_fd(writer, warn_on_full_buffer=False)) != -1:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)
        yield
        return
    _listening.set()
    threading.Thread(target=_listen, args=(reader,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        _listening.clear()
        os.write(writer, NO_SIGNAL)
        os.close(writer)


def _listen(reader: int) -> None:
    """Reads the numbers of signals, each a byte."""
    interrupts = 0
    while (number := os.read(reader, 1)) not in (b"", NO_SIGNAL):
        interrupts += number[0] == signal.SIGINT
        if interrupts > 1:
            os.write(STDERR, NOTICE)
            os._exit(128 + signal.SIGINT)
    os.close(reader)


def _leave_to_parent() -> None:
    """A fork gets the terminal's signals too, and would tell the parent's listener of them."""
    if _listening.is_set():
        _listening.clear()
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_leave_to_parent)
