"""One layer of a parameter, put together from rows of source tensors: whole, or band by band."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from . import stream
from .mapping import Entry
from .source import Tensor


class Layer(NamedTuple):
    """A layer of a parameter (its shape and dtype), from the entries that fill it. `scales` are those of fp8
    tensors.
    """

    entries: list[Entry]
    parameter: Any
    tensors: Mapping[str, Tensor]
    scales: Mapping[str, Tensor]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.parameter.shape[self.entries[0].layer is not None :])

    @property
    def axis(self) -> int:
        """The axis on which the tensors' rows lie."""
        return -1 if self.entries[0].kernel else -len(self.shape)

    def bands(self) -> stream.Bands:
        """The layer as it is written. Where rows of tensors are our last axis or the one before it, a band is
        as many as whole pieces need; other layers are read whole.
        """
        shape, dtype, axis = self.shape, self.parameter.dtype, self.axis
        piece = stream.piece_shape(shape, dtype)
        if piece == shape or axis not in (-1, -2):
            return stream.whole(self.read())
        starts = range(0, shape[axis], piece[axis])
        return stream.Bands(shape, dtype, axis, (self.read(start, start + piece[axis]) for start in starts))

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """[start, stop) of the axis on which the tensors' rows lie: a view in our axis order and dtype."""
        stop = self.shape[self.axis] if stop is None else stop
        parts = []
        for entry in sorted(self.entries, key=lambda entry: entry.column):
            first, last = (entry.rows[0] - entry.column + place for place in (start, stop))
            rows = max(first, entry.rows[0]), min(last, entry.rows[1])
            if rows[0] < rows[1]:
                parts.append(self._read_rows(entry.source, rows))
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return self._in_our_order(joined) if self.entries[0].kernel else joined

    def _in_our_order(self, rows: np.ndarray) -> np.ndarray:
        if self.entries[0].flat and rows.ndim == 2:
            return np.moveaxis(rows.reshape(-1, *self.shape[:-1]), 0, -1)
        # torch's (out, in, *window) as our (*window, in, out); a matrix may stand for a 1x1 window.
        rows = rows.reshape(*rows.shape, *[1] * (len(self.shape) - rows.ndim))
        return rows.transpose(*range(2, len(self.shape)), 1, 0)

    def _read_rows(self, source: str, rows: tuple[int, int]) -> np.ndarray:
        """Rows of a tensor in the target dtype, times its fp8 scale (per tensor or row) if there is one."""
        part, dtype = self.tensors[source].read(*rows), self.parameter.dtype
        if source not in self.scales:
            return part.astype(dtype, copy=False)
        scale = self.scales[source].read().astype(np.float32).reshape(-1)
        scale = scale[slice(*rows)] if scale.size > 1 else scale
        return (part.astype(np.float32) * scale.reshape(-1, *[1] * (part.ndim - 1))).astype(dtype)
