"""`uno-sample`, `python -m uno_jax.sample`: pictures of one prompt or of a list of jobs."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from uno_jax.sampling.like import like_args
from uno_jax.sampling.plan import plan_sampling
from uno_jax.sampling.run import (
    Work,
    check_outputs,
    draw_missing,
    locked_outputs,
    prepare_work,
    write_answers,
)
from uno_jax.sampling.settings import SampleArgs
from uno_jax.sampling.sheet import write_sheet
from uno_jax.support.command_line import exit_on, parse_args
from uno_jax.support.compile_cache import use_compile_cache
from uno_jax.support.errors import CheckpointError, RecipeError
from uno_jax.support.images import ImageError
from uno_jax.support.words import counted


def main(argv: Sequence[str] | None = None) -> None:
    """The command `uno-sample`."""
    args = read_args(argv)
    if args.plan:
        with exit_on(ValueError, OSError):
            return plan_sampling(args)
    use_compile_cache()
    with contextlib.ExitStack() as held:
        # Past the checks a ValueError is a fault of this program and keeps its traceback.
        with exit_on(ValueError, OSError):
            work = prepare_work(args)
            if not args.understand:
                held.enter_context(locked_outputs(args, work))
                check_outputs(args, work)
        with exit_on(CheckpointError, RecipeError, ImageError, FloatingPointError, OSError):
            lines = write_answers(args, work) if args.understand else drawn_lines(args, work)
            for line in lines:
                print(line, flush=True)


def read_args(argv: Sequence[str] | None) -> SampleArgs:
    """The command line's arguments; with --like the picture's own are their defaults."""
    args = parse_args(SampleArgs, "uno-sample", argv)
    if args.like is None:
        return args
    with exit_on(ValueError, OSError):
        own = like_args(args)
    # A flag whose default is true would only be accepted as --no-reference-cache.
    args = parse_args(SampleArgs, "uno-sample", argv, replace(own, reference_cache=False))
    return replace(args, reference_cache=args.reference_cache or own.reference_cache)


def drawn_lines(args: SampleArgs, work: Work) -> Iterator[str]:
    """Draws, and says what was written."""
    made = draw_missing(args, work)
    yield written_line(args, work, made)
    if args.sheet:
        yield f"wrote {write_sheet(args.named, work.outputs, made)}"


def written_line(args: SampleArgs, work: Work, made: Sequence[Path]) -> str:
    """What was written where, and what was there."""
    if not made:
        return f"kept {args.named} ({counted(len(work.outputs), 'picture')}, all of these settings)"
    kept = f", {len(work.outputs) - len(made)} kept" if len(made) < len(work.outputs) else ""
    if len(made) == 1 and not kept:
        return f"wrote {made[0]}"
    if args.named is None:
        return f"wrote {made[0]} to {made[-1]} ({counted(len(made), 'picture')})"
    return f"wrote {args.named} ({counted(len(made), 'picture')}{kept})"


if __name__ == "__main__":
    main()
