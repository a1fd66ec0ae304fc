"""How the tools' commands end."""

import contextlib
import sys
from collections.abc import Iterator

from uno_jax.support.command_line import exit_on

from .errors import ToolError


@contextlib.contextmanager
def exit_on_tool_errors() -> Iterator[None]:
    """Prints `error: …` and exits 2 for errors that the user can change, 130 when interrupted."""
    with exit_on(ToolError, OSError):
        try:
            yield
        except KeyboardInterrupt:
            print("error: interrupted; the same command continues from here", file=sys.stderr)
            sys.exit(130)
