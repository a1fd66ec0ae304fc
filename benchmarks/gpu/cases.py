"""The pictures that the parts are about: FLUX's sizes in pixels, or a sixteenth of them for small models."""

from typing import NamedTuple

from benchmarks.flux_71m import Inputs, make_inputs
from benchmarks.gpu.bench import Bench
from uno_jax.families.latents import TokenSize, token_size

Sizes = tuple[int, tuple[int, ...]]  # of the target, and of its references
PLAIN: Sizes = (1024, ())  # 4608 tokens
ONE: Sizes = (512, (512,))  # 2560
TWO: Sizes = (704, (320, 320))  # 3248


class Case(NamedTuple):
    """A square picture with square references; sides in pixels and sizes in tokens."""

    side: int
    refs: tuple[int, ...]
    target: TokenSize
    ref_sizes: tuple[TokenSize, ...]
    text: int

    @property
    def tokens(self) -> int:
        return self.text + sum(rows * columns for rows, columns in (self.target, *self.ref_sizes))

    def __str__(self) -> str:
        shown = "".join(f" + {side}²" for side in self.refs)
        return f"{self.side}²{shown}, {self.tokens} tokens"


def case(bench: Bench, sizes: Sizes) -> Case:
    """The case of the bench's model for FLUX's sizes."""
    side, refs = scaled(bench, sizes[0]), tuple(scaled(bench, ref) for ref in sizes[1])
    cells = bench.model.vae.downsampling
    return Case(
        side,
        refs,
        token_size(side, side, cells),
        tuple(token_size(ref, ref, cells) for ref in refs),
        bench.model.t5.length,
    )


def scaled(bench: Bench, side: int) -> int:
    return side if bench.full else max(side // 16 // 16, 1) * 16


def inputs(bench: Bench, of: Case) -> Inputs:
    """Random inputs of the MM-DiT for one picture."""
    return make_inputs(bench.model.mmdit, of.text, of.target, of.ref_sizes)
