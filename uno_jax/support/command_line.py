"""Shared by the command lines: arguments parsed into a dataclass, and errors without a traceback."""

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast, overload

import jax
import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

PIPE_CLOSED = 141  # exit code of a program that SIGPIPE ends, as a shell reports it
PATHS = ConstructorRegistry()
Args = TypeVar("Args")


@PATHS.primitive_rule
def _path_rule(kind: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    """Paths that are local. The empty one, as of an unset shell variable, is refused, since `Path` takes it
    for this folder, and a URL, which `Path` takes for a folder "http:".
    """
    if kind.type is not Path:
        return None
    return PrimitiveConstructorSpec(1, "PATH", _as_path, lambda x: isinstance(x, Path), lambda x: [str(x)])


def _as_path(words: list[str]) -> Path:
    if not words[0]:
        raise ValueError("the path is empty")
    if "://" in words[0]:
        raise ValueError(f"{words[0]} must be a local path")
    return Path(words[0])


@overload
def parse_args(
    args_type: type[Args], prog: str, argv: Sequence[str] | None, default: Args | None = None
) -> Args: ...
@overload
def parse_args(args_type: Any, prog: str, argv: Sequence[str] | None) -> Any: ...
def parse_args(args_type: Any, prog: str, argv: Sequence[str] | None, default: Any = None) -> Any:
    """Parses `argv` (None: the process's arguments) into `args_type`, a dataclass or a union of them as
    subcommands; absent options come from `default`.

    Exits with code 2 when they cannot be parsed.
    """
    print_any_name()
    try:
        if default is None:
            return tyro.cli(args_type, args=argv, prog=prog, registry=PATHS)
        return tyro.cli(args_type, args=argv, prog=prog, default=default, registry=PATHS)
    except BrokenPipeError:  # --help | head
        _end_silently()
    except SystemExit as stop:
        if stop.code:
            print("error: the arguments could not be read (see above)", file=sys.stderr)
        raise


def print_any_name() -> None:
    """Lets every file name be printed: bytes that are no text become escapes, in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def option_value(words: Sequence[str], option: str) -> str | None:
    """The value of one option, read before all arguments are parsed; None if it is absent."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument(option, dest="value")
    return cast(str | None, first.parse_known_args(words)[0].value)


@contextlib.contextmanager
def exit_on(*kinds: type[Exception]) -> Iterator[None]:
    """Prints `error: …` and exits with code 2 for these exceptions and when device memory runs out; exits
    with 130 when interrupted, and silently where whoever reads the output has gone.
    """
    print_any_name()
    try:
        yield
    except BrokenPipeError:
        _end_silently()
    except kinds as error:
        sys.exit(_print_error(str(error), 2))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        sys.exit(_print_error(f"out of device memory ({reason}); try smaller batches or pictures", 2))
    except KeyboardInterrupt:
        sys.exit(_print_error("interrupted", 130))


def _end_silently() -> NoReturn:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more
    sys.exit(PIPE_CLOSED)


def _print_error(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
