"""The steps of a drawing, one by one, for whom they are told."""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeVar

import jax

Phase = Literal["waiting", "loading", "encoding", "compiling", "drawing", "decoding"]


class Progress(NamedTuple):
    """What is being done, and how many of a batch's steps are done."""

    phase: Phase
    step: int = 0
    steps: int = 0


Watch = Callable[[Progress], None]
"""Is told how a drawing goes on. What it raises ends the drawing and comes out of it."""


State = TypeVar("State")


def walk(x: State, steps: int, advance: Callable[[State, int], State], watch: Watch) -> State:
    """`x`, a tree of arrays, after all steps, each a call of `advance` with its number."""
    # A loop on the host, and not a callback out of the compiled one: programs with callbacks are not kept in
    # the compilation cache, and could not be stopped. The next step is queued before this one is waited for,
    # so that the device never waits for the watcher.
    for step in range(steps):
        following = advance(x, step)
        jax.block_until_ready(x)
        watch(Progress("drawing", step, steps))
        x = following
    jax.block_until_ready(x)
    watch(Progress("drawing", steps, steps))
    return x
