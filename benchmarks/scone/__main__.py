"""Scone's speed: a table of what was measured and what was wanted.

    python -m benchmarks.scone

A decoder of 68.7 M parameters in two experts, 12 layers of width 512, 694 tokens: a reference of 16x16 latent
tokens and 12x12 cells of the ViT, 32 tokens of text, a target of 16x16. Float32, one core, one process; the
sides take turns after a check that they agree.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from benchmarks.measure import on_one_core, table
from benchmarks.scone import cached, compilation, forward, operations
from benchmarks.scone.model import CONFIG, SPLITS
from uno_jax.families.scone.splits import Reference, drawing_splits
from uno_jax.support.command_line import parse_args

STEPS, WRITTEN = 49, 64  # of a picture, and tokens of a text
REFERENCE = Reference((16, 16), (12, 12))


@dataclass(frozen=True)
class Args:
    """Time Scone's forward, drawing, writing and compilation, and count operations."""

    rounds: int = 12
    """Number of timed calls of each side of the forward; of slower ones a quarter."""
    compile: bool = True
    """Whether to compare with torch.compile too, which takes a minute to compile."""


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(Args, "python -m benchmarks.scone", argv)
    on_one_core()
    torch.set_num_threads(1)
    rows = [*forward_rows(args), *cached_rows(max(1, args.rounds // 4)), *compiled_rows(), *operations_rows()]
    print(table(("what", "uno_jax", "against", "ratio", "goal"), rows))


def forward_rows(args: Args) -> Iterator[Sequence[str]]:
    best = forward.compare(CONFIG, SPLITS, args.rounds, args.compile)
    own = best["uno_jax"]
    for name in list(best)[1:]:
        figures = (
            f"{1e3 * own:.0f} ms",
            f"{name}: {1e3 * best[name]:.0f} ms",
            f"{best[name] / own:.2f}x faster",
        )
        yield ("forward", *figures, "1.1x" if "eager" in name else "")


def cached_rows(rounds: int) -> Iterator[Sequence[str]]:
    for references in (1, 4):
        splits = drawing_splits([REFERENCE] * references, 32, (16, 16))
        found = cached.drawing(CONFIG, splits, 2, rounds)
        yield _cached_row(f"a picture of {STEPS} steps, {references} reference(s)", found, STEPS, "")
    found = cached.writing(CONFIG, SPLITS[:-1], WRITTEN, rounds)
    yield _cached_row(f"a text of {WRITTEN} tokens", found, WRITTEN, "5x")


def _cached_row(name: str, found: cached.Compared, steps: int, goal: str) -> Sequence[str]:
    own = f"{found.prefill:.2f} s + {steps} of {1e3 * found.cached:.0f} ms"
    return name, own, f"{1e3 * found.whole:.0f} ms a step", f"{found.speedup(steps):.1f}x faster", goal


def compiled_rows() -> Iterator[Sequence[str]]:
    compilation.seconds_to_compile(1)  # pays what a process pays once
    few, many = compilation.seconds_to_compile(4), compilation.seconds_to_compile(28)
    yield "compiling 28 layers", f"{many:.1f} s", f"4 layers: {few:.1f} s", f"{many / few:.2f}", "1.3"


def operations_rows() -> Iterator[Sequence[str]]:
    for references in (1, 2, 3, 4):
        yield _operations_row(
            f"training's forward, {references}", *operations.training_forward(references), "1.03"
        )
    for references in (1, 2, 4):
        step, prefill = operations.drawing_step(references), operations.prefill(references)
        whole = (STEPS * drawn + shown for drawn, shown in zip(step, prefill, strict=True))
        yield _operations_row(f"a step's three branches, {references}", *step, "1.03")
        yield _operations_row(f"a picture of {STEPS} steps, {references}", *whole, "")


def _operations_row(name: str, counted: int, least: int, goal: str) -> Sequence[str]:
    figures = f"{counted / 1e12:,.1f} TFLOP", f"least: {least / 1e12:,.1f}", f"{counted / least:.4f}"
    return f"operations: {name} reference(s)", *figures, goal


if __name__ == "__main__":
    main()
