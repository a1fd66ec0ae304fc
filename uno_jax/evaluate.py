"""`uno-evaluate SUITE`, `python -m uno_jax.evaluate --suite SUITE`: prompts -> pictures -> scores."""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from uno_jax.evaluation.dreambench.suite import MultiArgs, SingleArgs, evaluate_dreambench
from uno_jax.evaluation.lists.suite import ListArgs, evaluate_list
from uno_jax.evaluation.toybox.suite import ToyboxArgs, evaluate_toybox
from uno_jax.support.command_line import option_value, parse_args

Args: Any = (
    Annotated[ToyboxArgs, tyro.conf.subcommand("toybox")]
    | Annotated[SingleArgs, tyro.conf.subcommand("dreambench-single")]
    | Annotated[MultiArgs, tyro.conf.subcommand("dreambench-multi")]
    | Annotated[ListArgs, tyro.conf.subcommand("list")]
)


def main(argv: Sequence[str] | None = None) -> None:
    """The command `uno-evaluate`."""
    args = parse_args(Args, "uno-evaluate", suite_first(list(sys.argv[1:] if argv is None else argv)))
    if isinstance(args, ToyboxArgs):
        evaluate_toybox(args)
    elif isinstance(args, ListArgs):
        evaluate_list(args)
    else:
        evaluate_dreambench(args)


def suite_first(words: list[str]) -> list[str]:
    """The words with --suite NAME, which may stand anywhere, turned into the subcommand NAME; toybox where no
    suite is named.
    """
    if (suite := option_value(words, "--suite")) is not None:
        rest = [word for word in words if word not in ("--suite", f"--suite={suite}")]
        if f"--suite={suite}" not in words:
            rest.remove(suite)
        return [suite, *rest]
    return words if words and words[0][:1] != "-" or {"-h", "--help"} & set(words) else ["toybox", *words]


if __name__ == "__main__":
    main()
