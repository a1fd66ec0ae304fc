"""Where a forward's time goes: a trace of the device, reduced to kinds of kernels."""

import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.cases import PLAIN, case, inputs
from benchmarks.gpu.parts.forward import program_of, weights
from uno_jax.sharding.rules import make_mesh

CALLS, LONGEST = 3, 14
# The first that is found in a kernel's name or in that of its HLO instruction.
KINDS = {
    "attention": r"fmha|flash|sdpa|attention|cudnn_generated",
    "matrix products": r"gemm|nvjet|cutlass|xmma|matmul|dot|wgmma|ynn|cublas|splitk",
    "convolutions": r"conv(?!ert)|cudnn",
    "copies and slices": r"memcpy|memset|copy|dynamic.?(update.?)?slice|concatenate|transpose|slice|pad",
    "reductions": r"reduc",
    "elementwise": r"fusion|loop_|wrapped|convert|add|multiply|select|exponential|broadcast|tanh",
}
Events = dict[str, list[float]]


def run(bench: Bench) -> None:
    with jax.set_mesh(make_mesh()):
        variables = weights(bench)
        each = case(bench, PLAIN)
        shown = inputs(bench, each)
        program = bench.compiled(f"{each}: compilation", program_of(bench), variables, shown)
        events = traced(lambda: program(variables, shown))
    record(bench, str(each), events)


def traced(call: Callable[[], Any]) -> Events:
    """Milliseconds of each kernel of one call, by name, from a trace of several."""
    for _ in range(3):
        jax.block_until_ready(call())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(CALLS):
                out = call()
            jax.block_until_ready(out)
        events: Events = defaultdict(list)
        for path in Path(folder).rglob("*.xplane.pb"):
            for name, ms in kernels(jax.profiler.ProfileData.from_file(str(path))):
                events[name].append(ms / CALLS)
    if not events:
        raise RuntimeError("the trace holds no kernels: the profiler saw nothing of the device")
    return events


def kernels(trace: Any) -> Iterator[tuple[str, float]]:
    """Names and milliseconds: of a GPU what ran on its streams, of a CPU the HLO instructions."""
    planes = list(trace.planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:GPU")]
    for plane in devices or planes:
        for line in plane.lines:
            if devices and not line.name.startswith("Stream"):
                continue  # lines that sum up others
            for event in line.events:
                op = dict(event.stats).get("hlo_op")
                if devices or op is not None:
                    yield named(event.name, op), event.duration_ns / 1e6


def named(kernel: str, op: Any) -> str:
    """A kernel's name with its HLO instruction's, both without numbers that only count."""
    short = re.sub(r"[._]\d+$", "", kernel)[:80]
    instruction = re.sub(r"[._]\d+", "", str(op or ""))
    return short if instruction in ("", short) else f"{short} ({instruction})"


def kind(name: str) -> str:
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name.lower())), "other")


def record(bench: Bench, what: str, events: Events) -> None:
    """Rows by kind, and of the kernels that take longest."""
    total = sum(map(sum, events.values()))
    bench.record(
        f"{what}: all kernels", ms=total, share=1.0, launches=sum(map(len, events.values())) // CALLS
    )
    kinds: Events = defaultdict(list)
    for name, taken in events.items():
        kinds[kind(name)] += taken
    for name, taken in sorted(kinds.items(), key=lambda item: -sum(item[1])):
        figures = {"ms": sum(taken), "share": sum(taken) / total, "launches": len(taken) // CALLS}
        bench.record(name, kind="all of a kind", **figures)
    longest = sorted(events, key=lambda name: -sum(events[name]))[:LONGEST]
    for name in longest:
        taken = events[name]
        figures = {"ms": sum(taken), "share": sum(taken) / total, "launches": len(taken) // CALLS}
        bench.record(f"`{name}`", kind=kind(name), **figures)
