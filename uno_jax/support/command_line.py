"""Shared by the command lines: arguments parsed into a dataclass, and errors without a traceback."""

import argparse
import contextlib
import functools
import gc
import io
import os
import re
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast, overload

import jax
import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from uno_jax.support.bounds import as_option, check_bounds
from uno_jax.support.errors import CheckpointError
from uno_jax.support.full_disk import is_full, without_full_disk_logs
from uno_jax.support.interrupts import second_interrupt_ends
from uno_jax.support.words import printable

# Of accelerators and of a CPU; and what its kernels say that get no memory.
EXHAUSTED = ("RESOURCE_EXHAUSTED", "Out of memory", "YNNPACK operation failed")
COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")
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

    Exits with code 2 when they cannot be parsed, and naming every number that is out of its bounds.
    """
    freeze_imports()
    print_any_name()
    try:
        known = {} if default is None else {"default": default}
        args = tyro.cli(args_type, args=argv, prog=prog, registry=PATHS, **known)
    except BrokenPipeError as error:  # --help | head
        sys.exit(_leave_unread(error))
    except SystemExit as stop:
        if stop.code:
            print("error: the arguments could not be read (see above)", file=sys.stderr)
        raise
    if problems := [as_option(problem) for problem in check_bounds(args)]:
        sys.exit(_print_error("; ".join(problems), 2))
    return args


@functools.cache
def freeze_imports() -> None:
    """Takes what the imports made, which stays, out of every later garbage collection: a tenth of a short
    command's time. Once a process, since a later call would keep garbage.
    """
    gc.freeze()


def print_any_name() -> None:
    """Lets every file name be printed: bytes that are no text become escapes, in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _Escaped:
    """A stream that shows control characters, as names may hold, as escapes; colours reach a terminal."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        colours = self._stream.isatty()
        parts = COLOUR.split(text) if colours else [text]
        shown = (part if colours and COLOUR.match(part) else printable(part, "\n\t") for part in parts)
        return self._stream.write("".join(shown))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _escaped_output() -> contextlib.AbstractContextManager[Any]:
    """Shows what is printed as `_Escaped` does."""
    if sys.stdout is None:  # closed by whoever started this
        return contextlib.nullcontext()
    return contextlib.redirect_stdout(cast(TextIO, _Escaped(sys.stdout)))


def option_value(words: Sequence[str], option: str) -> str | None:
    """The value of one option, read before all arguments are parsed; None if it is absent."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument(option, dest="value")
    return cast(str | None, first.parse_known_args(words)[0].value)


@contextlib.contextmanager
def exit_on(*kinds: type[Exception]) -> Iterator[None]:
    """Prints `error: …` and exits with code 2 for these exceptions, when a disk or memory is full, and where
    JAX has no device of the platform that is asked for; exits with 130 when interrupted, a second time at
    once, and silently with 141 when the reader of the output has gone (`| head`). What is printed meanwhile
    shows control characters as escapes.
    """
    print_any_name()
    try:
        try:
            with second_interrupt_ends(), without_full_disk_logs(), _escaped_output():
                yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError as error:
        sys.exit(_leave_unread(error))
    except CheckpointError as error:
        if not isinstance(error, kinds):
            raise
        sys.exit(_print_error(printable(str(error)), 2))  # one line, whatever the names in a file
    except kinds as error:
        sys.exit(_print_error(str(error), 2))
    except Exception as error:
        sys.exit(_print_error(_exhausted(error), 2))
    except KeyboardInterrupt:
        sys.exit(_print_error("interrupted", 130))


def _exhausted(error: Exception) -> str:
    """What to tell when the disk or a memory is full, or JAX has no device.

    Raises any other error again.
    """
    if is_full(error):
        return "no space left on the disk: free some and run the command again"
    if isinstance(error, MemoryError):
        return f"out of memory ({error}); try smaller batches or pictures" if str(error) else "out of memory"
    if isinstance(error, jax.errors.JaxRuntimeError) and any(each in str(error) for each in EXHAUSTED):
        return f"out of device memory ({str(error).splitlines()[0]}); try smaller batches or pictures"
    if isinstance(error, RuntimeError) and str(error).startswith("Unable to initialize backend"):
        return f"{str(error).splitlines()[0]}; JAX_PLATFORMS is {os.environ.get('JAX_PLATFORMS', 'not set')}"
    raise error


def _leave_unread(error: BrokenPipeError) -> int:
    """The exit status when nobody reads the output any more; for another pipe an error is printed."""
    ask = select.poll()
    ask.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in ask.poll(0)):
        return _print_error(str(error), 2)
    # What is still buffered has no reader either: Python would complain when it exits.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE


def _print_error(message: str, code: int) -> int:
    lines = (printable(line) for line in message.splitlines())
    print("error: " + "\n".join(lines), file=sys.stderr)
    return code
