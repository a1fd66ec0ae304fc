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
    read, updated = _fused(called, [sum(shape.bytes for shape in shapes) for shapes in given])
    return Work(flops, read + (written(instruction) if updated is None else updated), dtype)


def kind_of(instruction: Instruction, program: HloProgram) -> str:
    """The kind of a kernel, as the tables name it."""
    opcode = instruction.opcode.removesuffix("-start")
    if opcode in COLLECTIVES:
        return opcode
    parts = [instruction, *program.within(instruction)]
    opcodes = {part.opcode for part in parts}
    targets = " ".join(part.word("custom_call_target") for part in parts)
    if "fmha" in targets or ("tpu_custom_call" in targets and "attention" in instruction.attributes):
        return "attention"
    if "convolution" in opcodes or "__cudnn$conv" in targets:
        return "convolutions" if any(_is_spatial(part) for part in parts) else "products"
    if "dot" in opcodes or "cublas" in targets or "triton_gemm" in instruction.attributes:
        return "products"
    done = opcodes - NO_KERNEL - {"fusion", "fusion-start", "copy-start"}
    return "copies" if done <= MOVES else "other kernels"


def written(instruction: Instruction) -> int:
    """Bytes of the results."""
    shapes = instruction.shapes
    if instruction.opcode.endswith("-start"):  # (operands, results, context)
        shapes = tuple(shape for shape in shapes if shape.dims)[-1:]
    elif instruction.opcode == "custom-call" and len(shapes) > 1:
        shapes = tuple(shape for shape in shapes if shape.dtype not in WORKSPACE)
    return sum(shape.bytes for shape in shapes)


def _bytes(instruction: Instruction, given: Sequence[tuple[Array, ...]]) -> int:
    opcode = instruction.opcode.removesuffix("-start")
    if opcode in SLICES:
        return 2 * written(instruction)
    if opcode == UPDATE:
        return 2 * sum(shape.bytes for shape in given[1])
    return sum(shape.bytes for shapes in given for shape in shapes) + written(instruction)


def _fused(called: Computation, operands: Sequence[int]) -> tuple[int, int | None]:
    """What a fusion reads of operands of these bytes, and what it writes if it updates one in place (None if
    it writes its results).
    """
    users: dict[str, list[Instruction]] = defaultdict(list)
    for each in called.values():
        for name in each.operands:
            users[name].append(each)
    root = next((each for each in called.values() if each.is_root), None)
    while root is not None and root.opcode in ("bitcast", "copy"):
        root = called[root.operands[0]]
    update = root if root is not None and root.opcode == UPDATE else None
    read = 0
    for each in called.values():
        if each.opcode == "parameter":
            full = operands[int(each.argument)] if int(each.argument) < len(operands) else 0
            read += min(full, _read(each, users, update))
    return read, None if update is None else sum(shape.bytes for shape in called[update.operands[1]].shapes)


def _read(source: Instruction, users: dict[str, list[Instruction]], update: Instruction | None) -> int:
    """Bytes that a fusion reads of an array: all, or what it slices, be it after elementwise operations;
    nothing of one that it only updates.
    """
    total = 0
    for user in users[source.name]:
        if user.opcode in SLICES and user.operands[0] == source.name:
            total += sum(shape.bytes for shape in user.shapes)
        elif user.opcode == "bitcast":
            total += _read(user, users, update)
        elif user.opcode in ELEMENTWISE and users[user.name]:
            size, computed = (sum(shape.bytes for shape in each.shapes) for each in (source, user))
            total += size * min(_read(user, users, update), computed) // computed
        elif not (update is user and user.operands[0] == source.name):
            return sum(shape.bytes for shape in source.shapes)
    return total


def _flops(instruction: Instruction, given: Sequence[tuple[Array, ...]]) -> float:
    target = instruction.word("custom_call_target")
    if instruction.opcode == "dot" or "cublas" in target:
        lhs, out = given[0][0].dims, instruction.shapes[0].dims
        written_by_libraries = instruction.numbers("lhs_contracting_dimension")
        contracted = instruction.numbers("lhs_contracting_dims") or written_by_libraries
        return 2.0 * math.prod(out) * math.prod(lhs[axis] for axis in contracted)
    if instruction.opcode == "convolution" or "__cudnn$conv" in target:
        labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
        kernel = given[1][0].dims
        features = kernel[labels.group(2).index("o")] if labels else kernel[-1]
        return 2.0 * math.prod(instruction.shapes[0].dims) * math.prod(kernel) / features
    if "fmha" in target:
        return _cudnn_attention(instruction, given)
    if target == "tpu_custom_call" and "attention" in instruction.attributes:
        q, k = (next(shape.dims for shape in shapes) for shapes in _heads(given)[:2])
        backward = "dkv" in instruction.attributes or "dq" in instruction.attributes  # two kernels
        forwards = BACKWARD_ATTENTION / 2 if backward else 1
        return 4.0 * math.prod(q) * k[-2] * forwards
    return 0.0


def _cudnn_attention(instruction: Instruction, given: Sequence[tuple[Array, ...]]) -> float:
    """Operations of cuDNN's attention for q (b, l, h, d) and k (b, s, h, d)."""
    (batch, length, heads, width), seen = given[0][0].dims, given[1][0].dims[1]
    forwards = BACKWARD_ATTENTION if "Backward" in instruction.word("custom_call_target") else 1
    return 4.0 * batch * heads * length * seen * width * forwards


def _heads(given: Sequence[tuple[Array, ...]]) -> list[tuple[Array, ...]]:
    """The operands (…, heads, tokens, channels) of splash attention, without its masks."""
    return [shapes for shapes in given if len(shapes[0].dims) >= 3 and shapes[0].dtype in ("bf16", "f32")]


def _is_spatial(instruction: Instruction) -> bool:
    """Whether a convolution is more than a product: TPUs write products as convolutions of one point."""
    return bool(re.search(r"window=\{size=[^}]*[2-9]", instruction.attributes)) or "__cudnn$conv" in (
        instruction.word("custom_call_target")
    )
