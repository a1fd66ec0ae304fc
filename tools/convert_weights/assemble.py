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
        as many as whole pieces need, each read into the place of the one before; other layers are read whole.
        """
        shape, dtype, axis = self.shape, self.parameter.dtype, self.axis
        piece = stream.piece_shape(shape, dtype)
        if piece == shape or axis not in (-1, -2):
            return stream.whole(self.read())
        band = self._empty(piece[axis])
        parts = (self._fill(band, start) for start in range(0, shape[axis], piece[axis]))
        return stream.Bands(shape, dtype, axis, parts)

    def read(self) -> np.ndarray:
        """The whole layer: a view in our axis order and dtype."""
        return self._fill(self._empty(self.shape[self.axis]), 0)

    def _empty(self, rows: int) -> np.ndarray:
        return np.empty((rows, *self.tensors[self.entries[0].source].shape[1:]), self.parameter.dtype)

    def _fill(self, band: np.ndarray, start: int) -> np.ndarray:
        """Reads the rows from `start` on into `band`, and returns a view of it in our axis order."""
        for entry in self.entries:
            end = entry.column + entry.rows[1] - entry.rows[0]
            first, last = max(start, entry.column), min(start + len(band), end)
            if first < last:
                row = entry.rows[0] + first - entry.column
                self._read_rows(entry.source, row, band[first - start : last - start])
        if not self.entries[0].kernel:
            return band
        if self.entries[0].flat and band.ndim == 2:
            return np.moveaxis(band.reshape(-1, *self.shape[:-1]), 0, -1)
        # torch's (out, in, *window) as our (*window, in, out); a matrix may stand for a 1x1 window.
        band = band.reshape(*band.shape, *[1] * (len(self.shape) - band.ndim))
        return band.transpose(*range(2, len(self.shape)), 1, 0)

    def _read_rows(self, source: str, start: int, out: np.ndarray) -> None:
        """Rows of a tensor from `start` on, times its fp8 scale (per tensor or row) if there is one."""
        tensor = self.tensors[source]
        if source not in self.scales and tensor.dtype == out.dtype:
            tensor.read_into(out, start)
            return
        part = tensor.read(start, start + len(out))
        if source in self.scales:
            scale = self.scales[source].read().astype(np.float32).reshape(-1)
            scale = scale[start : start + len(out)] if scale.size > 1 else scale
            part = part.astype(np.float32) * scale.reshape(-1, *[1] * (part.ndim - 1))
        out[...] = part
