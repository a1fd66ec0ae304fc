"""Python files whose get_config() returns settings: recipes, ablations, configurations of syntheses."""

import runpy
import traceback
from pathlib import Path
from typing import TypeVar

Config = TypeVar("Config")


class ConfigError(ValueError):
    """A file's code does not return the settings that were expected."""


def returned_by(path: Path, kind: type[Config]) -> Config:
    """What a file's get_config() returns.

    Raises ConfigError when that is not a `kind`, and for a file whose code cannot be run, with its line.
    """
    try:
        get_config = runpy.run_path(str(path)).get("get_config")
        config = get_config() if callable(get_config) else None
    except SyntaxError as error:
        raise ConfigError(f"{path}{_line(error.lineno)} is not Python: {error.msg}") from error
    except Exception as error:  # whatever the user's code raises
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
        ]
        where = _line(lines[-1] if lines else None)
        raise ConfigError(f"{path}{where} fails: {type(error).__name__}: {error}") from error
    if not isinstance(config, kind):
        raise ConfigError(f"{path} must define get_config() that returns a {kind.__module__}.{kind.__name__}")
    return config


def _line(number: int | None) -> str:
    return f", line {number}," if number else ""
