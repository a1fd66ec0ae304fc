"""Shared by the command lines: arguments parsed into a dataclass, and errors without a traceback."""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, cast, overload

import jax
import tyro

from uno_jax.support.bounds import as_option, check_bounds

Args = TypeVar("Args")


@overload
def parse_args(
    args_type: type[Args], prog: str, argv: Sequence[str] | None, default: Args | None = None
) -> Args: ...
@overload
def parse_args(args_type: Any, prog: str, argv: Sequence[str] | None) -> Any: ...
def parse_args(args_type: Any, prog: str, argv: Sequence[str] | None, default: Any = None) -> Any:
    """Parses `argv` (None: the process's arguments) into `args_type`, a dataclass or a union of them as
    subcommands; absent options come from `default`.

    Exits with code 2 when they cannot be parsed, and naming every number that is out of its bounds.
    """
    try:
        known = {} if default is None else {"default": default}
        args = tyro.cli(args_type, args=argv, prog=prog, **known)
    except SystemExit as stop:
        if stop.code:
            print("error: the arguments could not be read (see above)", file=sys.stderr)
        raise
    if problems := [as_option(problem) for problem in check_bounds(args)]:
        sys.exit(_print_error("; ".join(problems), 2))
    return args


def option_value(words: Sequence[str], option: str) -> str | None:
    """The value of one option, read before all arguments are parsed; None if it is absent."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument(option, dest="value")
    return cast(str | None, first.parse_known_args(words)[0].value)


@contextlib.contextmanager
def exit_on(*kinds: type[Exception]) -> Iterator[None]:
    """Prints `error: …` and exits with code 2 for these exceptions and when device memory runs out; exits
    with 130 when interrupted.
    """
    try:
        yield
    except kinds as error:
        sys.exit(_print_error(str(error), 2))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        sys.exit(_print_error(f"out of device memory ({reason}); try smaller batches or pictures", 2))
    except KeyboardInterrupt:
        sys.exit(_print_error("interrupted", 130))


def _print_error(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
