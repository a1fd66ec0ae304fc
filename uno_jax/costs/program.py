"""The cost of a program, found by compiling it from shapes alone: memory per chip by kind, operations, time.

Programs are compiled as the trainer and the sampler compile them, for local devices or a TPU topology
(`chips`), without making any array. `training.plan` and `sampling.plan` choose the programs.
"""

import math
import re
import time
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from uno_jax.costs.chips import Chip
from uno_jax.costs.devices import compiler_options
from uno_jax.costs.flops import count_flops
from uno_jax.costs.weigh import detail_lines, total_seconds, weigh
from uno_jax.support.memory import GIB


class Program(NamedTuple):
    """One compiled program. Memory is in bytes per chip: `inputs` by kind, `used` in total."""

    inputs: dict[str, int]
    temporaries: int | None
    """None if the compiler ran out of memory and reported only the total."""
    used: int
    flops: int
    """Operations of all chips together, including recomputation by remat."""
    seconds: float
    """Time to compile."""
    text: str = ""
    """XLA's text of the compiled program, for `weigh`; empty if it was not compiled."""


def abstract(shape: tuple[int, ...], dtype: Any, mesh: Mesh, *axes: Any) -> jax.ShapeDtypeStruct:
    """An abstract array, sharded over mesh axes, one for each leading dimension."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, PartitionSpec(*axes)))


def placed(shapes: Any, shardings: Any, dtype: Any = None) -> Any:
    """Abstract arrays of these shapes with these shardings, in `dtype` or their own."""

    def leaf(shape: jax.ShapeDtypeStruct, place: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape.shape, dtype or shape.dtype, sharding=place)

    return jax.tree.map(leaf, shapes, shardings)


def chip_bytes(tree: Any) -> int:
    """Bytes of a tree's shards on one chip."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def compile_program(function: Any, args: tuple[Any, ...], kinds: dict[str, Any], mesh: Mesh) -> Program:
    """Compiles a jitted function for the mesh's devices. `kinds` names the parts of the arguments whose
    memory is reported.
    """
    flops = count_flops(function, *args)
    start = time.monotonic()
    inputs = {kind: chip_bytes(tree) for kind, tree in kinds.items()}
    with jax.set_mesh(mesh):
        try:
            compiled = function.lower(*args).compile(compiler_options(mesh.devices.flat[0]))
        except jax.errors.JaxRuntimeError as error:
            used = out_of_memory(str(error))
            return Program(inputs, None, used, flops, time.monotonic() - start)
    seconds = time.monotonic() - start
    memory: Any = compiled.memory_analysis()
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    used = kept + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
    return Program(inputs, used - sum(inputs.values()), used, flops, seconds, compiled.as_text())


def only_counted(function: Any, args: tuple[Any, ...], kinds: dict[str, Any], mesh: Mesh) -> Program:
    """A program that is not compiled: its operations, and the memory of its inputs."""
    inputs = {kind: chip_bytes(tree) for kind, tree in kinds.items()}
    return Program(inputs, None, sum(inputs.values()), count_flops(function, *args), 0.0)


def out_of_memory(message: str) -> int:
    """The bytes that the compiler reports a program would have used. Call it while handling the error: any
    other error is raised again.
    """
    found = re.search(r"([\d.]+)([MGT])\) exceeds available|Used ([\d.]+)([MGT]) of", message)
    if "RESOURCE_EXHAUSTED" not in message or found is None:
        raise
    number, unit = (part for part in found.groups() if part)
    return int(float(number) * {"M": 2**20, "G": GIB, "T": 2**40}[unit])


def memory_line(program: Program, chip: Chip) -> str:
    """One line: GiB per chip by kind, and whether they fit."""
    parts = [f"{kind} {size / GIB:.2f}" for kind, size in program.inputs.items()]
    if program.temporaries is not None:
        parts.append(f"temporaries {program.temporaries / GIB:.2f}")
    parts.append(f"total {program.used / GIB:.2f}")
    limit = (
        f" of {chip.memory:.2f}: {'fits' if fits(program, chip) else 'does not fit'}" if chip.memory else ""
    )
    return f"GiB a chip: {', '.join(parts)}{limit}"


def fits(program: Program, chip: Chip) -> bool:
    return program.temporaries is not None and (chip.memory is None or program.used <= chip.memory * GIB)


def print_weighed(program: Program, chip: Chip, chips: int, detail: bool, indent: str = "  ") -> None:
    """Prints the time of a program's kernels where the chip's rates are known, with `detail` a table."""
    if kernels := weigh(program.text, chip, chips):
        print(f"{indent}{total_seconds(kernels):.4g} s by its kernels")
        if detail:
            print(*(f"{indent}  {line}" for line in detail_lines(kernels)), sep="\n")


def work_line(flops: int | float, chip: Chip, chips: int) -> str:
    """One line: TFLOP, and the seconds they take at the chips' bfloat16 peak and at half of it."""
    line = f"{flops / 1e12:,.2f} TFLOP"
    if chip.peak is None:
        return f"{line}; the peak of {chip.name} is not known here"
    seconds = flops / (chip.peak * 1e12 * chips)
    return f"{line}: {seconds:.4g} s at the bfloat16 peak, {2 * seconds:.4g} s at 50 % of it"
