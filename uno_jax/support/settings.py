"""Settings as frozen dataclasses: conversion to JSON values and back, and differences of two records."""

import dataclasses
import json
import sys
from collections.abc import Collection
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Config = TypeVar("Config")

# Metadata of a field that came later: while it has its default, records and the names made of them stay as
# they were without it.
ADDED = {"added": True}


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain JSON values, tuples as lists, without fields marked `ADDED` at their default."""
    values: dict[str, Any] = json.loads(json.dumps(_plain(config)))
    return values


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
        return {
            field.name: _plain(found)
            for field, found in fields
            if not (field.metadata.get("added") and found == field.default)
        }
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def from_dict(cls: type[Config], values: Any) -> Config:
    """The inverse of `to_dict`. Fields may be plain values, literals, other settings, tuples of these, and
    any of them or None.

    Raises ValueError naming the fields that `cls` does not have, those that are missing, or the first whose
    value is of another type.
    """
    settings: Config = from_json(cls, values, cls.__name__)
    return settings


def from_json(kind: Any, value: Any, name: str) -> Any:
    """A JSON value as a `kind`: the type of a field (see `from_dict`), a dict or list of such types, or Any.

    Raises ValueError naming the value by `name`.
    """
    origin, options = get_origin(kind), [option for option in get_args(kind) if option is not NoneType]
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _from_object(kind, value, name)
    if origin in (Union, UnionType) and len(options) == 1:
        return None if value is None else from_json(options[0], value, name)
    if origin is tuple and isinstance(value, list):
        kinds = options[:1] * len(value) if options[1:] == [...] else options
        if len(kinds) == len(value):
            return tuple(from_json(kinds[i], item, f"{name}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: from_json(options[1], item, f"{name}.{key}") for key, item in value.items()}
    if origin is list and isinstance(value, list):
        return [from_json(options[0], item, f"{name}[{i}]") for i, item in enumerate(value)]
    if kind is Any:
        return value
    fits = value in options if origin is Literal else type(value) is kind
    if fits or (kind is float and type(value) is int and abs(value) <= sys.float_info.max):
        return value
    expected = kind.__name__ if isinstance(kind, type) else str(kind)
    if origin is Literal:
        expected = f"one of {', '.join(map(repr, options))}"
    raise ValueError(f"{name} must be {expected}, got {repr(value)[:80]}")


def _from_object(cls: Any, values: dict[str, Any], name: str) -> Any:
    types, fields = get_type_hints(cls), dataclasses.fields(cls)
    names = [field.name for field in fields]
    if unknown := sorted(values.keys() - set(names)):
        raise ValueError(f"{cls.__name__} has no field {', '.join(unknown)}; it has {', '.join(names)}")
    needed = [field.name for field in fields if field.default is field.default_factory]  # both are MISSING
    if missing := [field for field in needed if field not in values]:
        raise ValueError(f"{name} lacks {', '.join(missing)}")
    return cls(**{key: from_json(types[key], value, f"{name}.{key}") for key, value in values.items()})


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
