"""Programs that a command starts."""

import subprocess
import sys

from uno_jax.support.errors import RecipeError


def run_program(what: str, module: str, *arguments: str) -> None:
    """Runs one of the project's programs.

    Raises RecipeError when it fails.
    """
    command = [sys.executable, "-m", module, *arguments]
    print(f"{what}: {' '.join(command[1:])}", flush=True)
    with subprocess.Popen(command) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()  # a training saves; a second Ctrl-C ends both
            raise
    if code:
        raise RecipeError(f"{what} failed with code {code}; the same command continues from there")
