"""Two identities of weights that records on disk depend on.

`weights_id` hashes files, without reading arrays: it names jobs and is recorded with every picture.
`fingerprint` is a checksum of arrays, equal for copies and repeated conversions of a network whatever their
files, so that cached encodings stay valid.
"""

import hashlib
import zlib
from pathlib import Path

import jax
import numpy as np

from uno_jax.networks.registry import abstract_params
from uno_jax.support import digests
from uno_jax.support.left_overs import is_passing
from uno_jax.weights import arrays
from uno_jax.weights.checkpoint import read_config

HASHED_WHOLE = 1_000_000  # bytes; of larger files in a directory only samples are hashed
SAMPLED, SAMPLE = 32, 16_384  # number of samples, and bytes of each
NO_WEIGHTS = ("_CHECKPOINT_METADATA", "commit_success.txt", "README.md", digests.NAME)
FINGERPRINTED = 1 << 17  # elements: `fingerprint` reads no larger array


def weights_id(path: Path) -> str:
    """A hash of a file or of a directory's files; of large files the size and SAMPLED samples are hashed.

    A model's card and digests.json are excluded, as are Orbax's records of where and when a checkpoint was
    written, and what another command is writing there.
    """
    if path.is_file():
        return digests.file_hash(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file() and _is_weights(file, path)):
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


def _is_weights(file: Path, directory: Path) -> bool:
    return file.name not in NO_WEIGHTS and not any(map(is_passing, file.relative_to(directory).parts))


def fingerprint(directory: Path) -> str:
    """A checksum of a network's small arrays (norms, biases), which all training changes.

    Raises as `checkpoint.read_config`.
    """
    shapes, _ = abstract_params(read_config(directory))
    small = jax.tree.map(lambda leaf: leaf.size <= FINGERPRINTED, shapes)
    check = 0
    for array in arrays.read_some(directory, shapes, small):
        check = zlib.crc32(np.asarray(array, np.float32).tobytes(), check)
    return f"{check:08x}"
