"""The path or URL of a list -> its entries, one at a time; what is in them is for `entries` to say."""

import os
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from fsspec.implementations.local import LocalFileSystem

from uno_jax.data.entries import DataError
from uno_jax.data.locations import is_remote
from uno_jax.support.json_lists import decoded, read_elements
from uno_jax.support.regular_file import check_regular_file


def read_entries(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The entries of a list, an array or JSON Lines, local or of any file system that fsspec knows.

    Raises OSError where it cannot be opened, DataError for anything but such a list and for an empty one.
    """
    name, empty = os.fspath(path), True
    try:
        if is_remote(name):
            from uno_jax.data.remote_files import open_list

            file = cast(BinaryIO, open_list(name))
        else:
            place = str(LocalFileSystem._strip_protocol(name))
            check_regular_file(place)
            file = cast(BinaryIO, open(place, "rb", buffering=0))  # noqa: SIM115
    except FileNotFoundError:
        raise FileNotFoundError(f"no list of records at {name}") from None
    with decoded(file) as stream:
        for entry in read_elements(stream, name, DataError):
            empty = False
            yield entry
    if empty:
        raise DataError(f"{name} must be a list of at least one record, got an empty one")
