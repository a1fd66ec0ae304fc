"""`uno-train-small`, `python -m uno_jax.train_small`: the small model's training on the toy world."""

from collections.abc import Sequence

from uno_jax.small_training.run import SmallArgs, compile_faster, train_small
from uno_jax.support.command_line import exit_on, parse_args
from uno_jax.support.compile_cache import use_compile_cache


def main(argv: Sequence[str] | None = None) -> None:
    """The command `uno-train-small`."""
    args = parse_args(SmallArgs, "uno-train-small", argv)
    compile_faster()
    use_compile_cache()
    with exit_on(ValueError, OSError, FloatingPointError):
        train_small(args)


if __name__ == "__main__":
    main()
