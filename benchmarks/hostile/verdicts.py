"""How a case ended, in a word."""

import re
import signal
from pathlib import Path

from benchmarks.hostile.case import REFUSED, Case
from benchmarks.hostile.process import Ended

EXPECTED = "as expected"
VERDICTS = ("traceback", "hang", "past memory", "killed by signal", "otherwise", EXPECTED)
OUT_OF_MEMORY = re.compile(r"^MemoryError|std::bad_alloc|Unable to allocate|Cannot allocate memory", re.M)
CRASH = re.compile(r"Traceback \(most recent call last\)")
ERROR = re.compile(r"^error: ", re.M)
INTERRUPTED = (130, -signal.SIGINT)


def verdict(case: Case, ended: Ended, folder: Path) -> tuple[str, str]:
    """One of VERDICTS, and why."""
    if ended.stopped == "time":
        return "hang", f"still there after {ended.seconds:.0f} s"
    if ended.stopped == "memory" or OUT_OF_MEMORY.search(ended.text):
        return "past memory", f"{ended.memory / 2**30:.1f} GiB"
    text = ended.text
    if ended.stopped == "asked":  # may find Python at its end, which then reports an "exception ignored"
        text = text.partition("Exception ignored in")[0]
    if CRASH.search(text):
        return "traceback", next(filter(None, reversed(ended.text.splitlines())))[:200]
    if ended.code < 0 and not (ended.stopped == "asked" and ended.code in INTERRUPTED):
        return "killed by signal", f"signal {-ended.code}"
    if wrong := unexpected(case, ended, folder):
        return "otherwise", wrong
    return EXPECTED, ""


def unexpected(case: Case, ended: Ended, folder: Path) -> str:
    """What is wrong with an end that is none of the others; empty where nothing is."""
    errors = len(ERROR.findall(ended.text.replace("\r", "\n")))
    codes = (*case.codes, 0, *INTERRUPTED) if ended.stopped == "asked" else case.codes
    if ended.code not in codes:
        return f"exit {ended.code}"
    if ended.code == REFUSED and errors != 1:
        return f"exit 2 with {errors} lines of error"
    if "\x1b" in ended.text or "\x07" in ended.text:
        return "a terminal's control characters in the output"
    return case.check(folder) if case.check else ""
