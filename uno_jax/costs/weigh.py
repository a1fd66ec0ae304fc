"""Where a compiled program's time goes: every kernel weighed by its operations and its bytes.

A kernel takes the longer of its operations at the chip's rate and of its bytes at the memory's, and a launch;
in a loop, as often as it runs. What no program's text shows, such as how well a library's kernel is tuned, is
in the shares of its data sheet that a chip is taken to reach (`Chip.reached`).
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from uno_jax.costs.chips import Chip
from uno_jax.costs.hlo import Computation, HloProgram, Instruction, read_program
from uno_jax.costs.kernels import COLLECTIVES, NO_KERNEL, Work, group_size, kind_of, results, work_of

LAUNCH = 2e-6  # seconds from one kernel to the next
FLOOR = ("products", "attention", "convolutions")
SHOWN_ROWS = 12
MODULE = re.compile(r"[A-Z]\w*[a-z]|\w+_blocks")  # a class of Flax's, or a name of stacked blocks


class Kernel(NamedTuple):
    """One kernel or collective. Figures are those of one run, `times` the number of runs."""

    name: str
    kind: str
    where: str
    """Its place in the model."""
    flops: float
    bytes: float
    seconds: float
    times: int


class Row(NamedTuple):
    """Kernels of one kind or place, summed over all runs."""

    name: str
    kernels: int
    flops: float
    bytes: float
    seconds: float


def weigh(text: str, chip: Chip, chips: int = 1) -> list[Kernel]:
    """The kernels that one of the `chips` runs of a compiled program (`compiled.as_text()`); none where the
    chip's rates are not known or there is no text.
    """
    if not (chip.peak and chip.bandwidth and text):
        return []
    program = read_program(text)
    return list(_kernels(program, program.computations[program.entry], 1, chip, chips))


def rows_by(kernels: Iterable[Kernel], attribute: str) -> list[Row]:
    """The kernels summed by "kind" or "where", the longest row first."""
    groups: dict[str, list[Kernel]] = defaultdict(list)
    for kernel in kernels:
        groups[getattr(kernel, attribute)].append(kernel)
    rows = [
        Row(
            name,
            sum(kernel.times for kernel in group),
            sum(kernel.times * kernel.flops for kernel in group),
            sum(kernel.times * kernel.bytes for kernel in group),
            total_seconds(group),
        )
        for name, group in groups.items()
    ]
    return sorted(rows, key=lambda row: -row.seconds)


def total_seconds(kernels: Iterable[Kernel]) -> float:
    """The time of all runs of the kernels."""
    return sum(kernel.times * kernel.seconds for kernel in kernels)


def detail_lines(kernels: Sequence[Kernel]) -> list[str]:
    """A table of a program's kernels by kind and by place in the model, and of its collectives by both. The
    GB of a collective are those of its results on one chip.
    """
    total = total_seconds(kernels)
    lines = [f"{'':52} {'kernels':>9} {'TFLOP':>9} {'GB':>9} {'ms':>9} {'share':>6}"]
    collectives = [kernel for kernel in kernels if kernel.kind in COLLECTIVES]
    placed = [kernel._replace(where=f"{kernel.kind}, {kernel.where}") for kernel in collectives]
    for rows in (rows_by(kernels, "kind"), rows_by(kernels, "where"), rows_by(placed, "where")):
        lines += [
            f"{row.name[:52]:52} {row.kernels:9,} {row.flops / 1e12:9.2f} {row.bytes / 1e9:9.2f} "
            f"{1e3 * row.seconds:9.3f} {row.seconds / total:6.1%}"
            for row in rows[:SHOWN_ROWS]
        ]
        lines += [""] if rows else []
    floor = total_seconds(kernel for kernel in kernels if kernel.kind in FLOOR)
    return [*lines[:-1], f"products, attention and convolutions alone: {1e3 * floor:.3f} ms"]


def _kernels(
    program: HloProgram, computation: Computation, times: int, chip: Chip, chips: int
) -> Iterator[Kernel]:
    for instruction in computation.values():
        opcode = instruction.opcode
        if opcode == "while":
            inner = program.called(instruction, "body")
            yield from _kernels(program, inner, times * trips(program, instruction), chip, chips)
        elif opcode == "conditional":
            branches = [
                list(_kernels(program, branch, times, chip, chips))
                for branch in _branches(program, instruction)
            ]
            yield from max(branches, key=total_seconds)
        elif opcode in ("call", "async-start"):
            attribute = "to_apply" if opcode == "call" else "calls"
            yield from _kernels(program, program.called(instruction, attribute), times, chip, chips)
        elif opcode not in NO_KERNEL and not opcode.endswith(("-done", "-update")):
            work, kind = work_of(instruction, computation, program), kind_of(instruction, program)
            if kind in COLLECTIVES:
                size = sum(shape.size for shape in results(instruction))
                seconds = collective_seconds(kind, size, group_size(instruction, program, chips), chip)
                work = work._replace(bytes=size)
            else:
                seconds = kernel_seconds(kind, work, chip)
            calls = (part for part in program.within(instruction) if part.opcode == "custom-call")
            where = place(next(calls, instruction).word("op_name"))  # a slice around a product has no name
            yield Kernel(instruction.name, kind, where, work.flops, work.bytes, seconds, times)


def kernel_seconds(kind: str, work: Work, chip: Chip) -> float:
    """Seconds of a kernel of that kind with this work."""
    assert chip.peak and chip.bandwidth
    share = chip.reached.attention if kind == "attention" else chip.reached.products
    rate = chip.peak * 1e12 * share * {"f8": 2.0, "s8": 2.0, "f3": 1 / 8}.get(work.dtype[:2], 1.0)
    return max(work.flops / rate, work.bytes / (chip.bandwidth * 1e9 * chip.reached.bandwidth)) + LAUNCH


def collective_seconds(opcode: str, size: int, chips: int, chip: Chip) -> float:
    """Seconds of a collective in a ring, whose result has `size` bytes on each chip."""
    if not chip.link:
        return LAUNCH
    passes = {"all-reduce": 2 * (chips - 1) / chips, "reduce-scatter": chips - 1, "collective-permute": 1}
    return LAUNCH + passes.get(opcode, (chips - 1) / chips) * size / (chip.link * 1e9)


def trips(program: HloProgram, loop: Instruction) -> int:
    """Number of iterations of a loop that counts up from 0, 1 where its end is not to be seen."""
    if found := re.search(r'known_trip_count":\{"n":"(\d+)"', loop.attributes):
        return int(found.group(1))
    condition = program.called(loop, "condition")  # a TPU's program only compares with the number
    root = next((each for each in condition.values() if each.is_root), None)
    if root is None or root.opcode != "compare" or root.word("direction") != "LT":
        return 1
    ends = [condition[name] for name in root.operands[1:] if name in condition]
    return next((int(each.argument) for each in ends if each.opcode == "constant"), 1)


def place(op_name: str) -> str:
    """The modules of an operation, at most two deep: jit(f)/while/body/MMDiT/double_blocks/qkv/dot_general is
    in MMDiT/double_blocks; "(backward)" is added to what a transposed function computes.
    """
    names = [name for part in op_name.split("/")[:-1] for name in re.findall(r"\w+", part.split(".")[0])]
    modules = list(dict.fromkeys(name for name in names if MODULE.match(name)))
    where = "/".join(modules[:2]) or "outside the networks"
    return f"{where} (backward)" if "transpose(" in op_name else where


def _branches(program: HloProgram, conditional: Instruction) -> list[Computation]:
    listed = re.search(r"branch_computations=\{([^}]*)\}", conditional.attributes)
    names = re.findall(r"%([\w.\-]+)", listed.group(1)) if listed else []
    names = names or [conditional.word("true_computation"), conditional.word("false_computation")]
    return [program.computations[name] for name in names]
