"""Settings as frozen dataclasses: conversion to JSON values and back, and differences of two records."""

import dataclasses
import json
from collections.abc import Collection
from typing import Any, TypeVar

Config = TypeVar("Config")


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain JSON values; tuples become lists."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return values


def from_dict(cls: type[Config], values: dict[str, Any]) -> Config:
    """The inverse of `to_dict`.

    Raises ValueError naming the fields that `cls` does not have.
    """
    types = {field.name: field.type for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(values.keys() - types.keys()):
        raise ValueError(f"{cls.__name__} has no field {', '.join(unknown)}; it has {', '.join(types)}")
    return cls(**{name: _from_json(types[name], value) for name, value in values.items()})


def _from_json(kind: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return from_dict(kind, value)
    return tuple(value) if isinstance(value, list) else value


def differences(
    old: dict[str, Any], new: dict[str, Any], harmless: Collection[str] = (), prefix: str = ""
) -> list[str]:
    """`field: old -> new` for every field in which two records differ, except the `harmless` ones."""
    found = []
    for name in sorted(old.keys() | new.keys()):
        path, was, now = prefix + name, old.get(name), new.get(name)
        if path in harmless:
            continue
        if isinstance(was, dict) and isinstance(now, dict):
            found += differences(was, now, harmless, f"{path}.")
        elif was != now:
            found.append(f"{path}: {json.dumps(was)} -> {json.dumps(now)}")
    return found
