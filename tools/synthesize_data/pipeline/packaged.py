"""Files that come with this program (data/), and files of uno_jax, found without importing it."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from uno_jax.support.json_files import read_json

from ...common.errors import ToolError

DATA = Path(__file__).resolve().parent.parent / "data"


def read_data(name: str) -> Any:
    """Reads a file of data/, such as "subjects.json"."""
    return read_json(DATA / name)


def in_uno_jax(*parts: str) -> Path:
    """Finds a file or folder of the package.

    Raises ToolError if it does not exist.
    """
    spec = find_spec("uno_jax")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(place, *parts)).exists():
            return path
    raise ToolError(f"{'/'.join(('uno_jax', *parts))} is needed and was not found: install uno_jax")
