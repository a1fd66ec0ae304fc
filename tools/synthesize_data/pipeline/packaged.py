"""Files that come with this program (data/), and those of uno_jax, found without importing it."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...common.manifest import SynthesisError

DATA = Path(__file__).resolve().parent.parent / "data"


def read_data(name: str) -> Any:
    """A file of data/, such as "subjects.json"."""
    return json.loads((DATA / name).read_text(encoding="utf-8"))


def in_uno_jax(*parts: str) -> Path:
    """A file or folder of the package. Raises SynthesisError when it is not there."""
    spec = find_spec("uno_jax")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(place, *parts)).exists():
            return path
    raise SynthesisError(f"{'/'.join(('uno_jax', *parts))} is wanted and not there: install uno_jax")
