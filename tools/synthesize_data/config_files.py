"""Settings from and to files: presets and configuration files in Python, and a run's config.json."""

import dataclasses
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uno_jax.support.atomic import atomic_write
from uno_jax.support.json_files import read_json
from uno_jax.support.python_config import ConfigError, returned_by
from uno_jax.support.settings import from_dict

from ..common.errors import ToolError
from .config import SynthConfig

PRESETS = Path(__file__).parent / "presets"


def load_config(name: str) -> SynthConfig:
    """Returns what get_config() of the file, or of the preset of that name, returns.

    Raises ToolError.
    """
    path = Path(name)
    presets = sorted(file.stem for file in PRESETS.glob("[!_]*.py"))
    if name in presets:
        return importlib.import_module(f".presets.{name}", __package__).get_config()
    if not path.is_file():
        raise ToolError(f"no configuration {path}: expected a file, or one of {', '.join(presets)}")
    try:
        return returned_by(path, SynthConfig)
    except ConfigError as error:
        raise ToolError(str(error)) from error


def stored_config(folder: Path) -> SynthConfig | None:
    """Returns the settings of the last command in `folder`, if there was one.

    Raises ToolError.
    """
    path = folder / "config.json"
    if not path.exists():
        return None
    stored = read_json(path, ToolError)
    try:
        return from_dict(SynthConfig, stored)
    except ValueError as error:
        raise ToolError(f"{path} does not hold settings of this program: {error}") from None


def store_config(folder: Path, config: SynthConfig) -> None:
    with atomic_write(folder / "config.json") as partial:
        partial.write_text(json.dumps(dataclasses.asdict(config), indent=1, ensure_ascii=False) + "\n")


def changed_settings(old: SynthConfig | None, new: SynthConfig) -> Iterator[str]:
    """Yields "split.min_probability 0.5 -> 0.7" for every field that differs."""
    before = dict(flat_settings(dataclasses.asdict(old))) if old else {}
    for name, value in flat_settings(dataclasses.asdict(new)):
        if old and json.dumps(before.get(name)) != json.dumps(value):
            yield f"{name} {before.get(name)} -> {value}"


def flat_settings(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted names and values of nested settings."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat_settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
