"""Recordings of a reference implementation: arrays by key, and how ours are compared with them."""

import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ..mapping import ConversionError

LIMIT = 1e-4
Tensors = dict[str, np.ndarray]


class Result(NamedTuple):
    """The largest absolute error of a recorded array, its ratio to the array's largest value, and what that
    may be.
    """

    key: str
    error: float
    relative: float
    limit: float = LIMIT


class Kind(NamedTuple):
    """The recordings of one family: how a folder is opened, and what its arrays are.

    The object that is opened has the `arrays`. An output is made by the function whose pattern its key
    matches, from that object and the pattern's groups. What is `left_out` is not recomputed; it has a name
    and a pattern for each sort of that.
    """

    load: Callable[[Path], Any]
    outputs: Mapping[str, Callable[..., Any]]
    inputs: re.Pattern[str]
    left_out: Mapping[str, str] = MappingProxyType({})
    limit: float = LIMIT
    exact: bool = False
    """Whether integers, masks and names must be equal."""


def read_arrays(folder: Path) -> Tensors:
    """Reads golden.npz.

    Raises FileNotFoundError, or ConversionError when it cannot be read.
    """
    file = folder / "golden.npz"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} is not a golden folder: it has no golden.npz")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, zipfile.BadZipFile, OSError) as error:
        raise ConversionError(f"{file} cannot be read: {error}") from None


def compare(
    key: str, recorded: np.ndarray, computed: np.ndarray, limit: float = LIMIT, exact: bool = False
) -> Result:
    """Errors of one array; infinite if the shapes differ or a value is NaN or infinite. With `exact` all but
    finite floating-point numbers must be equal. A recorded NaN stands for no number, and must be one.
    """
    recorded, computed = np.asarray(recorded), np.asarray(computed)
    if exact and recorded.dtype.kind == "f" and np.isnan(recorded).any():
        absent = np.isnan(recorded)
        if not np.array_equal(absent, np.isnan(computed)):
            return Result(key, np.inf, np.inf, limit)
        recorded, computed = recorded[~absent], computed[~absent]
    if exact and (recorded.dtype.kind != "f" or not np.isfinite(recorded).all()):
        error = 0.0 if np.array_equal(recorded, computed) else np.inf
        return Result(key, error, error, 0.0)
    recorded, computed = np.asarray(recorded, np.float64), np.asarray(computed, np.float64)
    if recorded.shape != computed.shape or not np.isfinite(computed - recorded).all():
        return Result(key, np.inf, np.inf, limit)
    error, largest = np.abs(recorded - computed).max(initial=0), np.abs(recorded).max(initial=0)
    return Result(key, float(error), float(error / largest if largest else error), limit)
