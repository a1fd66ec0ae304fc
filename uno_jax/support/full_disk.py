"""A full disk, wherever it shows: in an error's cause, in orbax's log, in a thread or a task of its own."""

import contextlib
import errno
import logging
import threading
from collections.abc import Iterator

FULL = {errno.ENOSPC, errno.EDQUOT}


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk or quota caused an error. Tensorstore reports it in the message only."""
    while error is not None:
        named = any(words in str(error) for words in ("No space left on device", "Disk quota exceeded"))
        if named or (isinstance(error, OSError) and error.errno in FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def without_full_disk_logs() -> Iterator[None]:
    """Suppresses the tracebacks that orbax, asyncio and threads print for a full disk beside raising it."""
    logs, hook = [logging.getLogger(name) for name in ("absl", "asyncio")], threading.excepthook

    def tell(failed: threading.ExceptHookArgs) -> None:
        if not is_full(failed.exc_value):
            hook(failed)

    for log in logs:
        log.addFilter(_is_not_full)
    threading.excepthook = tell
    try:
        yield
    finally:
        threading.excepthook = hook
        for log in logs:
            log.removeFilter(_is_not_full)


def _is_not_full(record: logging.LogRecord) -> bool:
    return not (record.exc_info and is_full(record.exc_info[1]))
