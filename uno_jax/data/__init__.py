"""Training data: lists of pairs, or cached encodings of them -> Records -> Batches. The command `uno-data`
checks a list and packs it.
"""

from uno_jax.data.batches import Batches, make_dataset
from uno_jax.data.cached_encodings import read_encodings
from uno_jax.data.entries import DataError
from uno_jax.data.records import Record, Records, each_picture, read_list, read_records

__all__ = [
    "Batches",
    "DataError",
    "Record",
    "Records",
    "each_picture",
    "make_dataset",
    "read_encodings",
    "read_list",
    "read_records",
]
