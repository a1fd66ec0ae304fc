"""What tells one set of weights from another, in two ways that records on disk depend on.

`weights_id` hashes files: it names jobs and stands beside every picture, and needs to read no arrays.
`fingerprint` sums up arrays: it is equal for copies and for new conversions of a network, in whatever files,
so that cached encodings stay valid.
"""

import hashlib
import zlib
from pathlib import Path

import jax
import numpy as np

from uno_jax.networks.registry import abstract_params
from uno_jax.weights import arrays
from uno_jax.weights.checkpoint import read_config

HASHED_WHOLE = 1_000_000  # bytes; larger files of a directory are hashed in samples
SAMPLED, SAMPLE = 32, 16_384  # places, and bytes at each
NO_WEIGHTS = ("_CHECKPOINT_METADATA", "commit_success.txt", "README.md")
FINGERPRINTED = 1 << 17  # elements of the largest array that `fingerprint` reads


def file_hash(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as whole:
        return hashlib.file_digest(whole, "sha256").hexdigest()


def weights_id(path: Path) -> str:
    """A hash of a file, or of a directory's files, of large ones their size and the parts at SAMPLED places.
    A model's card is left out, and where and when an orbax checkpoint was written.
    """
    if path.is_file():
        return file_hash(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file() and file.name not in NO_WEIGHTS):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path)} {size}\n".encode())
        with file.open("rb") as stream:
            if size <= HASHED_WHOLE:
                digest.update(stream.read())
                continue
            for place in range(SAMPLED):
                stream.seek(place * (size - SAMPLE) // (SAMPLED - 1))
                digest.update(stream.read(SAMPLE))
    return digest.hexdigest()


def fingerprint(directory: Path) -> str:
    """A checksum of a network's small arrays (norms, biases), which every training changes. Raises as
    `checkpoint.read_config`.
    """
    shapes, _ = abstract_params(read_config(directory))
    small = jax.tree.map(lambda leaf: leaf.size <= FINGERPRINTED, shapes)
    check = 0
    for array in arrays.read_some(directory, shapes, small):
        check = zlib.crc32(np.asarray(array, np.float32).tobytes(), check)
    return f"{check:08x}"
