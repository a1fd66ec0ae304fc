"""Parquet files, as the hub publishes data sets, read by pyarrow."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from uno_jax.data.entries import DataError
from uno_jax.support.regular_file import check_regular_file
from uno_jax.support.words import one_line


def open_parquet(path: Path) -> Any:
    """A pyarrow ParquetFile.

    Raises OSError for what is no regular file, DataError for another format and for want of pyarrow.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError(f"{path}: Parquet files are read by pyarrow: pip install pyarrow") from None
    check_regular_file(path)
    try:
        return ParquetFile(path)
    except ArrowException as error:
        raise DataError(f"{path} is not a Parquet file: {one_line(error)}") from None


def rows_of(table: Any, path: Path, at_once: int, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """The rows of an open file as objects, `at_once` of them in memory.

    Raises DataError for a file that is damaged further on.
    """
    from pyarrow import ArrowException

    try:
        for batch in table.iter_batches(at_once, columns=columns):
            yield from batch.to_pylist()
    except (ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged: {one_line(error)}") from None
