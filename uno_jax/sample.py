"""`uno-sample`, `python -m uno_jax.sample`: pictures of one prompt or of a list of jobs."""

from collections.abc import Sequence

from uno_jax.sampling.plan import plan_sampling
from uno_jax.sampling.run import draw_missing, prepare_work
from uno_jax.sampling.settings import SampleArgs
from uno_jax.support.command_line import exit_on, parse_args
from uno_jax.support.compile_cache import use_compile_cache
from uno_jax.support.errors import CheckpointError
from uno_jax.support.images import ImageError
from uno_jax.support.words import counted


def main(argv: Sequence[str] | None = None) -> None:
    """The command `uno-sample`."""
    args = parse_args(SampleArgs, "uno-sample", argv)
    if args.plan:
        with exit_on(ValueError, OSError):
            return plan_sampling(args)
    use_compile_cache()
    # Past the checks a ValueError is a fault of this program and keeps its traceback.
    with exit_on(ValueError, OSError):
        work = prepare_work(args)
    with exit_on(CheckpointError, ImageError, FloatingPointError, OSError):
        made = draw_missing(args, work)
    print(f"{counted(made, 'picture')} made, {len(work.outputs) - made} already there: {args.out}")


if __name__ == "__main__":
    main()
