"""`uno-demo`, `python -m uno_jax.demo`: a tour of the small model, as a user would take it."""

from collections.abc import Sequence

from uno_jax.apps.tour import TourArgs, give_tour
from uno_jax.support.command_line import exit_on, parse_args


def main(argv: Sequence[str] | None = None) -> None:
    """The command `uno-demo`."""
    args = parse_args(TourArgs, "uno-demo", argv)
    with exit_on(ValueError, OSError):
        give_tour(args)


if __name__ == "__main__":
    main()
