"""`uno-evaluate SUITE`, `python -m uno_jax.evaluate --suite SUITE`: prompts -> pictures -> scores."""

import sys
from collections.abc import Sequence

from uno_jax.evaluation.dreambench.suite import evaluate_dreambench
from uno_jax.evaluation.lists.suite import ListArgs, evaluate_list
from uno_jax.evaluation.suites import parse_suite
from uno_jax.evaluation.toybox.suite import ToyboxArgs, evaluate_toybox


def main(argv: Sequence[str] | None = None) -> None:
    """The command `uno-evaluate`."""
    args = parse_suite(sys.argv[1:] if argv is None else argv)
    if isinstance(args, ToyboxArgs):
        evaluate_toybox(args)
    elif isinstance(args, ListArgs):
        evaluate_list(args)
    else:
        evaluate_dreambench(args)


if __name__ == "__main__":
    main()
