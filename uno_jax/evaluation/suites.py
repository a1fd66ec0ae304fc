"""The suites of `uno-evaluate`: which one a command line names, and whether it can run."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from uno_jax.evaluation.dreambench import suite as dreambench
from uno_jax.evaluation.lists import suite as lists
from uno_jax.evaluation.toybox import suite as toybox
from uno_jax.support.command_line import option_value, parse_args

Args: Any = (
    Annotated[toybox.ToyboxArgs, tyro.conf.subcommand("toybox")]
    | Annotated[dreambench.SingleArgs, tyro.conf.subcommand("dreambench-single")]
    | Annotated[dreambench.MultiArgs, tyro.conf.subcommand("dreambench-multi")]
    | Annotated[lists.ListArgs, tyro.conf.subcommand("list")]
)


def parse_suite(words: Sequence[str]) -> Any:
    """The options of the suite that the words name."""
    return parse_args(Args, "uno-evaluate", suite_first(list(words)))


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


def check_evaluation(words: Sequence[str]) -> None:
    """Checks the words of a command line without --out, and the files that they name, as far as that needs no
    weights in memory.

    Raises ValueError or OSError saying what to change; exits with code 2 where they cannot be parsed.
    """
    with tempfile.TemporaryDirectory() as folder:
        args = parse_suite([*words, "--out", str(Path(folder) / "out")])
        if isinstance(args, toybox.ToyboxArgs):
            toybox.prepare_work(args)
        elif isinstance(args, lists.ListArgs):
            lists.check_args(args)
            lists.prepare_work(args)
        else:
            dreambench.check_args(args)
            for each in dreambench.resolution_runs(args):
                dreambench.prepare_work(each)
