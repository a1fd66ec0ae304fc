"""What a run trains on: lists of pairs, and how their pictures are sized and read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class SourceConfig:
    """One list of a mixture (see `uno_jax.data.entries` for its forms)."""

    path: str
    """Local or a URL that fsspec knows, such as gs://bucket/list.json."""
    weight: float = 1.0
    """Share of the samples, relative to the other sources."""
    min_score: float | None = None
    """From 0 to 4; entries of a lower score are left out. None: all are taken, but of UNO-1M's labels those
    of 4, the paper's.
    """
    root: str = ""
    """Folder of the pictures, where it is not the list's own."""
    size: tuple[int, int] | None = None
    """(height, width) of every target in pixels, for shapes that no bucket has, such as two pictures side by
    side. None: the bucket of each one's own shape.
    """


@dataclass(frozen=True)
class DataConfig:
    """Lists of pairs and how their pictures are sized and read (see `uno_jax.data`)."""

    path: str = ""
    """The list; or several as `sources`."""
    sources: tuple[SourceConfig, ...] = ()
    encodings: str = ""
    """A directory that `python -m uno_jax.encodings` made of the lists, to train from in their place."""
    resolution: int = 512
    """Bucket resolution of targets, and of the training schedule."""
    ref_resolution: int = 512
    """Bucket resolution of references: 512 for one, 320 for several in the paper."""
    text_dropout: float = 0.1
    """Share of prompts replaced by the empty one."""
    max_bad_share: float = 0.01
    """Records that cannot be used are left out; when they are more than this, the run stops."""
    threads: int = 2
    """Reading batches, in each worker."""
    workers: int = 0
    """Processes reading batches; 0: threads of the trainer's own process."""


def with_weights(data: DataConfig, weights: Sequence[float]) -> DataConfig:
    """The same sources, weighted anew in their order."""
    weighted = zip(data.sources, weights, strict=True)
    return replace(data, sources=tuple(replace(source, weight=weight) for source, weight in weighted))
