"""What the benchmarks share: one core, interleaved rounds, the least CPU time, a Markdown table.

On a shared machine wall-clock time depends on other programs. The CPU time of a process pinned to one core
hardly does, and the least of many rounds was disturbed the least; cases take turns, so that all meet the same
conditions.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence


def on_one_core() -> None:
    """Pins this process to the last core it may use. JAX and PyTorch start their threads later, one each.
    Call it before the first computation.
    """
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def least_cpu_seconds(cases: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least CPU seconds of a call of each case, over `rounds` rounds after one that is not counted."""
    best = dict.fromkeys(cases, float("inf"))
    for counted in [False] + [True] * rounds:
        for name, call in cases.items():
            start = time.process_time()
            call()
            if counted:
                best[name] = min(best[name], time.process_time() - start)
    return best


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
