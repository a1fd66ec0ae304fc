"""What the command lines share: arguments parsed into a dataclass, and errors told without a traceback."""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

import jax
import tyro

Args = TypeVar("Args")


def parse_args(
    args_type: type[Args], prog: str, argv: Sequence[str] | None, default: Args | None = None
) -> Args:
    """The dataclass `args_type` from `argv` (None: the process's arguments), unnamed fields from `default`.

    Exits 2 when they cannot be read.
    """
    try:
        if default is None:
            return tyro.cli(args_type, args=argv, prog=prog)
        return tyro.cli(args_type, args=argv, prog=prog, default=default)
    except SystemExit as stop:
        if stop.code:
            print("error: the arguments could not be read (see above)", file=sys.stderr)
        raise


def take_plan(argv: Sequence[str] | None) -> tuple[str | None, list[str]]:
    """(what --plan names, the other arguments): a plan takes the place of the command's own work."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--plan")
    known, rest = first.parse_known_args(argv)
    return known.plan, rest


@contextlib.contextmanager
def errors_told(*kinds: type[Exception]) -> Iterator[None]:
    """Prints `error: …` and exits 2 for errors of these kinds and for lack of device memory; 130 when
    interrupted.
    """
    try:
        yield
    except kinds as error:
        sys.exit(_tell(str(error), 2))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        sys.exit(
            _tell(f"out of device memory ({str(error).splitlines()[0]}); try smaller batches or pictures", 2)
        )
    except KeyboardInterrupt:
        sys.exit(_tell("interrupted", 130))


def _tell(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
