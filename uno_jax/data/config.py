"""What a run trains on: lists of pairs, and how their pictures are sized and read."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from uno_jax.support.bounds import Bounds, Share, Side
from uno_jax.support.settings import ADDED

Resolution = Annotated[int, Bounds(32, 8_192)]
PairScore = Annotated[float, Bounds(0, 4)]


@dataclass(frozen=True)
class SourceConfig:
    """One list of a mixture (see `uno_jax.data.entries` for its forms)."""

    path: str
    """Path of the list: local, or a URL that fsspec knows, such as gs://bucket/list.json. Also a local folder
    of subjects (see `uno_jax.data.subject_folders`).
    """
    weight: Annotated[float, Bounds(0, 1e12, above=True)] = 1.0
    """Share of the samples, relative to the weights of the other sources."""
    min_score: PairScore | None = None
    """Lowest score, from 0 to 4, of entries that are taken. None takes all, but of UNO-1M's labels only those
    of 4, as in the paper.
    """
    root: str = ""
    """Folder of the pictures, where it is not the list's own."""
    size: tuple[Side, Side] | None = None
    """(height, width) in pixels of every target, for shapes that no bucket has, such as two pictures side by
    side. None takes the bucket of each picture's own shape.
    """


@dataclass(frozen=True)
class DataConfig:
    """Lists of pairs and how their pictures are sized and read (see `uno_jax.data`)."""

    path: str = ""
    """Path or URL of a single list, or a local folder of subjects."""
    sources: tuple[SourceConfig, ...] = ()
    """Several lists to mix, in place of `path`."""
    encodings: str = ""
    """Directory that `uno-encode` made of the lists, to train from in their place."""
    resolution: Resolution = 512
    """Bucket resolution of targets in pixels; the timestep schedule depends on it too."""
    ref_resolution: Resolution = 512
    """Bucket resolution of references in pixels: 512 for one, 320 for several in the paper."""
    buckets: Literal["own", "mean"] = "own"
    """Shapes of batches where lists do not say their pictures' sizes. "own" reads these at the start, and a
    batch holds targets of one bucket; "mean" takes any targets and the bucket of their mean height/width, as
    UNO does, which stretches them.
    """
    mask_weight: Annotated[float, Bounds(0, 1e6, above=True)] = field(default=1.0, metadata=ADDED)
    """Weight of errors where a record's mask (image_tgt_mask_path) is white; elsewhere, and without a mask,
    it is 1. With 1 masks are not read.
    """
    text_dropout: Share = 0.1
    """Share of prompts replaced by the empty one."""
    max_bad_share: Share = 0.01
    """Largest share of records that cannot be used. They are left out; with more of them the run stops."""
    threads: Annotated[int, Bounds(1, 1_024)] = 2
    """Threads that read batches, in each worker."""
    workers: Annotated[int, Bounds(0, 1_024)] = 0
    """Processes that read batches; 0 reads in the trainer's own process."""

    @property
    def lists(self) -> tuple[SourceConfig, ...]:
        """The lists that `sources` or `path` names; none where only encodings are given."""
        return self.sources or ((SourceConfig(self.path),) if self.path else ())


def with_weights(data: DataConfig, weights: Sequence[float]) -> DataConfig:
    """The same sources with other weights, in their order."""
    weighted = zip(data.sources, weights, strict=True)
    return replace(data, sources=tuple(replace(source, weight=weight) for source, weight in weighted))
