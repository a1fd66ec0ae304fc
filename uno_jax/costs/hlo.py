"""The instructions of a compiled program, read from XLA's text (`compiled.as_text()`)."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple


class Array(NamedTuple):
    """One array's shape; `on_chip` where a TPU holds it in its vector memory."""

    dtype: str
    dims: tuple[int, ...]
    on_chip: bool = False

    @property
    def bytes(self) -> int:
        """Bytes in main memory."""
        return 0 if self.on_chip else self.size

    @property
    def size(self) -> int:
        """Bytes in any memory."""
        bits = re.search(r"\d+", self.dtype)
        width = int(bits.group()) if bits else 8 * (self.dtype == "pred")
        return math.prod(self.dims) * width // 8


class Instruction(NamedTuple):
    """One instruction. `shapes` are its results, `argument` the text within its parentheses, `attributes` the
    rest of its line.
    """

    name: str
    shapes: tuple[Array, ...]
    opcode: str
    argument: str
    attributes: str
    is_root: bool

    @property
    def operands(self) -> list[str]:
        return re.findall(r"%([\w.\-]+)", self.argument)

    def word(self, attribute: str) -> str:
        """A name or quoted text such as body=%region_1 or op_name="a/b"; empty where there is none."""
        found = re.search(rf'\b{attribute}=(?:"([^"]*)"|%?([\w.\-]+))', self.attributes)
        return (found.group(1) or found.group(2) or "") if found else ""

    def numbers(self, attribute: str) -> list[int]:
        """The numbers of an attribute such as lhs_contracting_dims={1}, also within a library's config."""
        found = re.search(rf"\b{attribute}(?:={{|s?\":\[)([^}}\]]*)", self.attributes)
        return [int(number) for number in re.findall(r"\d+", found.group(1))] if found else []


Computation = dict[str, Instruction]
"""Instructions by name, in order."""

HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
LINE = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
SHAPE = re.compile(r"(\w+)\[([\d,]*)\](\{[^}]*\})?")


class HloProgram(NamedTuple):
    """A compiled module: its computations by name."""

    computations: dict[str, Computation]
    entry: str

    def called(self, instruction: Instruction, attribute: str = "calls") -> Computation:
        """The computation that an instruction calls; empty where it calls none."""
        return self.computations.get(instruction.word(attribute), {})

    def within(self, instruction: Instruction) -> Iterator[Instruction]:
        """The instructions that a fusion consists of, those of fusions within it too."""
        for each in self.called(instruction).values():
            yield each
            yield from self.within(each)


def read_program(text: str) -> HloProgram:
    """The program of a module's text."""
    computations: dict[str, Computation] = {}
    here: Computation = {}
    entry = ""
    for line in text.splitlines():
        if head := HEAD.match(line):
            here = computations.setdefault(head.group(2), {})
            entry = head.group(2) if head.group(1) else entry
        elif found := LINE.match(line):
            instruction = _instruction(*found.groups())
            here[instruction.name] = instruction
    return HloProgram(computations, entry)


def _instruction(root: str | None, name: str, shape: str, opcode: str, rest: str) -> Instruction:
    end = _closing(rest)
    shapes = tuple(
        Array(dtype, tuple(int(size) for size in dims.split(",") if size), "S(1)" in layout)
        for dtype, dims, layout in SHAPE.findall(shape)
    )
    return Instruction(name, shapes, opcode, rest[:end], rest[end + 1 :], bool(root))


def _closing(text: str) -> int:
    """Where the parenthesis ends that was opened before the text."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter in "({[") - (letter in ")}]")
        if depth < 0:
            return place
    return len(text)
