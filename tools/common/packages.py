"""Packages of the extra `synth`, which settings may need."""

from importlib.util import find_spec

from .errors import ToolError


def check_packages(setting: str, *names: str) -> None:
    """Raises ToolError where a package that `setting` needs is not installed. Imports nothing."""
    if missing := [name for name in names if find_spec(name) is None]:
        raise ToolError(f"{setting} needs {' and '.join(missing)}: pip install 'uno_jax[synth]'")
