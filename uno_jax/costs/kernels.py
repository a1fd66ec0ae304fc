"""What one instruction of a compiled program does: its operations, its bytes, its kind."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from uno_jax.costs.hlo import Array, Computation, HloProgram, Instruction

NO_KERNEL = {
    *("parameter", "get-tuple-element", "bitcast", "tuple", "constant", "after-all", "partition-id"),
    *("replica-id", "opt-barrier", "add-dependency", "iota", "broadcast"),
}
SLICES = {"slice", "dynamic-slice", "gather"}
UPDATE = "dynamic-update-slice"
MOVES = {"copy", "transpose", "reshape", "concatenate", "pad", UPDATE, *SLICES}
ELEMENTWISE = {
    *("add", "subtract", "multiply", "divide", "negate", "abs", "maximum", "minimum", "convert", "select"),
    *("compare", "exponential", "tanh", "rsqrt", "sqrt", "logistic", "power"),
}
COLLECTIVES = {
    *("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute"),
    "collective-broadcast",
}
BACKWARD_ATTENTION = 2.5  # forwards: flash kernels compute the scores again
# replica_groups={{0,1},{2,3}}, =[2,2]<=[4], or =mesh['a'=2,'b'=2] {'b'}
GROUPS = re.compile(r"replica_groups=(?:\{\{([\d,]*)\}|\[\d+,(\d+)\]<=|mesh\[(.*?)\] \{(.*?)\})")
WORKSPACE = ("s8", "u8")  # of a library's call: not written as a whole


class Work(NamedTuple):
    """Floating-point operations, and bytes of main memory that are read and written. `dtype` is that of a
    product's inputs.
    """

    flops: float
    bytes: float
    dtype: str


def work_of(instruction: Instruction, computation: Computation, program: HloProgram) -> Work:
    """The work of a kernel in a computation."""
    given = [computation[name].shapes for name in instruction.operands if name in computation]
    called = program.called(instruction)
    if not called:
        size = _bytes(instruction, given)
        return Work(_flops(instruction, given), size, given[0][0].dtype if given and given[0] else "")
    parts = [work_of(each, called, program) for each in called.values()]
    flops = sum(part.flops for part in parts)
    dtype = next((part.dtype for part in parts if part.flops), "")
    size = _fused_bytes(called, [sum(shape.bytes for shape in shapes) for shapes in given], program)
    return Work(flops, size, dtype)


def kind_of(instruction: Instruction, program: HloProgram) -> str:
    """The kind of a kernel, as the tables name it."""
    parts = [instruction, *program.within(instruction)]
    opcodes = {part.opcode.removesuffix("-start") for part in parts}
    if collectives := opcodes & COLLECTIVES:  # a TPU's reduce-scatter is a fusion around an all-reduce
        fused = "all-reduce-scatter" in instruction.word("calls")
        return "reduce-scatter" if fused else min(collectives)
    targets = " ".join(part.word("custom_call_target") for part in parts)
    if "fmha" in targets or any(_is_splash(part) for part in parts):
        return "attention"
    if convolutions := [part for part in parts if part.opcode == "convolution"]:
        return "convolutions" if any(map(_is_spatial, convolutions)) else "products"
    if "__cudnn$conv" in targets:
        return "convolutions"
    if "dot" in opcodes or "cublas" in targets or "triton_gemm" in instruction.attributes:
        return "products"
    done = opcodes - NO_KERNEL - {"fusion"}
    return "copies" if done <= MOVES else "other kernels"


def group_size(instruction: Instruction, program: HloProgram, chips: int) -> int:
    """The number of chips among which a collective passes its data, `chips` where the text does not say."""
    for part in (instruction, *program.within(instruction)):
        if found := GROUPS.search(part.attributes):
            listed, width, sizes, axes = found.groups()
            if sizes is None:
                return int(width) if width else len(listed.split(","))
            mesh = dict(re.findall(r"'(\w+)'=(\d+)", sizes))
            parts = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", axes)
            return math.prod(int(share or mesh[axis]) for axis, share in parts)
    return chips


def written(instruction: Instruction) -> int:
    """Bytes of the results in main memory."""
    return sum(shape.bytes for shape in results(instruction))


def results(instruction: Instruction) -> tuple[Array, ...]:
    """The arrays that an instruction makes."""
    shapes = instruction.shapes
    if instruction.opcode.endswith("-start"):  # (operands, results, context), or results alone
        given = len(instruction.operands)
        shapes = tuple(shape for shape in shapes[given if len(shapes) > given else 0 :] if shape.dims)
    elif instruction.opcode == "custom-call" and len(shapes) > 1:
        shapes = tuple(shape for shape in shapes if shape.dtype not in WORKSPACE)
    return shapes


def _bytes(instruction: Instruction, given: Sequence[tuple[Array, ...]]) -> int:
    opcode = instruction.opcode.removesuffix("-start")
    if opcode in SLICES:
        return 2 * written(instruction)
    if opcode == UPDATE:
        return 2 * sum(shape.bytes for shape in given[1])
    return sum(shape.bytes for shapes in given for shape in shapes) + written(instruction)


def _fused_bytes(called: Computation, operands: Sequence[int], program: HloProgram) -> int:
    """What a fusion reads of operands of these bytes, and what it writes: its results, or the part that it
    updates in place.
    """
    users = _users(called)
    root = next(each for each in called.values() if each.is_root)
    while root.opcode in ("bitcast", "copy"):
        root = called[root.operands[0]]
    update = root if root.opcode == UPDATE else None
    read = 0
    for each in called.values():
        if each.opcode == "parameter":
            full = operands[int(each.argument)] if int(each.argument) < len(operands) else 0
            read += min(full, _read(each, users, update, program))
    made = called[update.operands[1]] if update else root
    return read + written(made)


def _users(computation: Computation) -> dict[str, list[Instruction]]:
    users: dict[str, list[Instruction]] = defaultdict(list)
    for each in computation.values():
        for name in each.operands:
            users[name].append(each)
    return users


def _read(
    source: Instruction,
    users: dict[str, list[Instruction]],
    update: Instruction | None,
    program: HloProgram,
) -> int:
    """Bytes that a fusion reads of an array, wherever this lies: all, or what it slices, be it after
    elementwise operations or in a fusion within it; nothing of one that it only updates.
    """
    total = 0
    for user in users[source.name]:
        if user.opcode in SLICES and user.operands[0] == source.name:
            total += sum(shape.size for shape in user.shapes)
        elif user.opcode == "bitcast":
            total += _read(user, users, update, program)
        elif user.opcode == "fusion":
            inner = program.called(user)
            place = str(user.operands.index(source.name))
            given = (each for each in inner.values() if (each.opcode, each.argument) == ("parameter", place))
            total += sum(_read(each, _users(inner), None, program) for each in given)
        elif user.opcode in ELEMENTWISE and users[user.name]:
            size, computed = (sum(shape.size for shape in each.shapes) for each in (source, user))
            total += size * min(_read(user, users, update, program), computed) // max(computed, 1)
        elif not (update is user and user.operands[0] == source.name):
            return sum(shape.size for shape in source.shapes)
    return total


def _flops(instruction: Instruction, given: Sequence[tuple[Array, ...]]) -> float:
    target = instruction.word("custom_call_target")
    if instruction.opcode == "dot" or "cublas" in target:
        lhs, out = given[0][0].dims, instruction.shapes[0].dims
        written_by_libraries = instruction.numbers("lhs_contracting_dimension")
        contracted = instruction.numbers("lhs_contracting_dims") or written_by_libraries
        return 2.0 * math.prod(out) * math.prod(lhs[axis] for axis in contracted)
    if instruction.opcode == "convolution" or "__cudnn$conv" in target:
        return _convolution(instruction, given)
    if "fmha" in target:
        return _cudnn_attention(instruction, given)
    if _is_splash(instruction):
        q, k = (next(shape.dims for shape in shapes) for shapes in _heads(given)[:2])
        about = instruction.name + instruction.attributes
        backward = "dkv" in about or "dq" in about  # two kernels
        forwards = BACKWARD_ATTENTION / 2 if backward else 1
        return 4.0 * math.prod(q) * k[-2] * forwards
    return 0.0


class Axis(NamedTuple):
    """A window along one axis: its size, the padding before, the stride, and the dilations of input and
    kernel.
    """

    size: int
    before: int
    stride: int
    dilation: int
    step: int


def _window(instruction: Instruction) -> list[Axis]:
    """The axes of window={size=3x3 pad=1_1x1_1 stride=2x2}."""
    text = re.search(r"window=\{([^}]*)\}", instruction.attributes)
    fields = dict(part.split("=") for part in text.group(1).split()) if text else {}
    sizes = fields.get("size", "").split("x") if fields else []

    def field(name: str, axis: int, default: int) -> int:
        return int(fields[name].split("x")[axis].split("_")[0]) if name in fields else default

    rest = (("pad", 0), ("stride", 1), ("lhs_dilate", 1), ("rhs_dilate", 1))
    return [
        Axis(int(size), *(field(name, axis, default) for name, default in rest))
        for axis, size in enumerate(sizes)
    ]


def _convolution(instruction: Instruction, given: Sequence[tuple[Array, ...]]) -> float:
    """Operations of a convolution without those on padding, where most of a TPU product's window lies."""
    out, lhs, kernel = instruction.shapes[0].dims, given[0][0].dims, given[1][0].dims
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    if not labels:
        return 2.0 * math.prod(out) * math.prod(kernel) / kernel[-1]
    flops = 2.0 * kernel[labels.group(2).index("i")]
    flops *= out[labels.group(3).index("b")] * out[labels.group(3).index("f")]
    windows = _window(instruction)
    for label in (letter for letter in labels.group(3) if letter.isdecimal()):
        before, after = lhs[labels.group(1).index(label)], out[labels.group(3).index(label)]
        axis = windows[int(label)] if windows else Axis(kernel[labels.group(2).index(label)], 0, 1, 1, 1)
        places = (
            to * axis.stride + tap * axis.step - axis.before
            for to in range(after)
            for tap in range(axis.size)
        )
        flops *= sum(at % axis.dilation == 0 and 0 <= at < before * axis.dilation for at in places)
    return flops


def _cudnn_attention(instruction: Instruction, given: Sequence[tuple[Array, ...]]) -> float:
    """Operations of cuDNN's attention for q (b, l, h, d) and k (b, s, h, d)."""
    (batch, length, heads, width), seen = given[0][0].dims, given[1][0].dims[1]
    forwards = BACKWARD_ATTENTION if "Backward" in instruction.word("custom_call_target") else 1
    return 4.0 * batch * heads * length * seen * width * forwards


def _heads(given: Sequence[tuple[Array, ...]]) -> list[tuple[Array, ...]]:
    """The operands (…, heads, tokens, channels) of splash attention, without its masks. Keys and values that
    all heads share have no axis of heads.
    """
    return [shapes for shapes in given if len(shapes[0].dims) >= 2 and shapes[0].dtype in ("bf16", "f32")]


def _is_splash(instruction: Instruction) -> bool:
    """Whether a TPU's kernel is attention; older compilers leave only its place in the source."""
    named = "splash" in instruction.name or "attention" in instruction.attributes
    return named and instruction.word("custom_call_target") == "tpu_custom_call"


def _is_spatial(instruction: Instruction) -> bool:
    """Whether a convolution is more than a product. TPUs write a product as a convolution of one point, and
    one of several axes as a window that sees all points at once, or a single one of them with padding.
    """
    sizes, out = _window(instruction), instruction.shapes[0].dims
    result = instruction.attributes.partition("->")[2]
    for number, axis in enumerate(sizes):
        one = axis.before == axis.size - 1 or axis.dilation > 1 or out[result.index(str(number))] == 1
        if axis.size > 1 and not one:
            return True
    return False
