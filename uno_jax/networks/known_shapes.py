"""Shapes and axes of networks' parameters, kept in the user's cache directory: finding them by tracing a
network takes tenths of a second of every start.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from uno_jax.support.atomic import atomic_write
from uno_jax.support.compile_cache import cache_folder
from uno_jax.support.json_files import JsonError, read_object
from uno_jax.support.trees import TreePath


class Parameter(NamedTuple):
    """A parameter's shape, and the names of its axes."""

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]


Parameters = Mapping[TreePath, Parameter]


def read_known(config: Any) -> Parameters | None:
    """The parameters of a network that were kept for this config; None if there are none, or no readable
    ones.
    """
    try:
        kept = read_object(_file(config), {"sha256": str, "parameters": dict[str, Any]})
    except (OSError, JsonError):
        return None
    if kept["sha256"] != _digest(kept["parameters"]):
        return None
    return {
        tuple(name.split("/")): Parameter(tuple(shape), tuple(axes))
        for name, (shape, axes) in kept["parameters"].items()
    }


def keep_known(config: Any, parameters: Parameters) -> None:
    """Keeps a network's parameters where the cache directory can be written."""
    named = {"/".join(name): each for name, each in parameters.items()}
    try:
        with atomic_write(_file(config)) as path:
            path.write_text(json.dumps({"sha256": _digest(named), "parameters": named}))
    except OSError:
        pass


def _digest(parameters: Any) -> str:
    """Other shapes than were kept would be reported as a fault of the model."""
    return hashlib.sha256(json.dumps(parameters).encode()).hexdigest()


def _file(config: Any) -> Path:
    """A file whose name says which config, and which source, gave the parameters."""
    about = hashlib.sha256(f"{_source()} {type(config).__qualname__} {config!r}".encode())
    return cache_folder() / "shapes" / f"{about.hexdigest()}.json"


@lru_cache(maxsize=1)
def _source() -> str:
    """The digest of what shapes follow from: this package's files, and the versions of Flax and JAX."""
    about = hashlib.sha256(repr([importlib.metadata.version(name) for name in ("flax", "jax")]).encode())
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        about.update(file.read_bytes())
    return about.hexdigest()
