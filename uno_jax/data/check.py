"""A list and its pictures -> a report: counts by bucket and by number of references, and every bad record.

A record is read as training reads it, sizes by headers first and then the pixels at their buckets, so that
one that is good here is good there.
"""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context

from tqdm import tqdm

from uno_jax.data.config import DataConfig
from uno_jax.data.image_files import READ_ERRORS, bucket_array, mask_array, picture_size
from uno_jax.data.records import Record, Records
from uno_jax.support import images
from uno_jax.support.words import counted

Sizes = list[tuple[int, int]]
CHUNK = 16


@dataclass
class Report:
    """What a list holds; `sizes` are (width, height) of target and references, for good records only."""

    entries: int
    below_score: int
    bad: dict[int, str]
    resolution: int
    sizes: dict[int, Sizes] = field(default_factory=dict)
    buckets: Counter[tuple[int, int]] = field(default_factory=Counter)
    references: Counter[int] = field(default_factory=Counter)

    def lines(self) -> Iterator[str]:
        """The report as text."""
        entries = counted(self.entries, "entry", "entries")
        yield f"{entries}: {len(self.sizes)} good, {len(self.bad)} bad"
        if self.below_score:
            yield f"{self.below_score} left out for their score"
        for count, records in sorted(self.references.items()):
            yield f"references {count}: {counted(records, 'record')}"
        for (height, width), records in sorted(self.buckets.items()):
            bucket = f"{height}x{width} (height x width at {self.resolution})"
            yield f"bucket {bucket}: {counted(records, 'record')}"
        for entry, why in sorted(self.bad.items()):
            yield f"record {entry}: {why}"


def check_records(records: Records, data: DataConfig) -> Report:
    """Reads every picture of one list as training at these resolutions does, with all cores and a progress
    bar.
    """
    (source,) = records.sources
    report = Report(source.entries, source.below_score, dict(source.bad), data.resolution)
    check = partial(sizes_or_reason, data)
    # Not forked: a fork of a process with JAX's threads can hang.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        found = pool.map(check, records, chunksize=CHUNK)
        bar = tqdm(found, total=len(records), unit="record", dynamic_ncols=True)
        for index, result in enumerate(bar):
            entry = int(records.entry[index])
            if isinstance(result, str):
                report.bad[entry] = result
                continue
            report.sizes[entry] = result
            report.references[len(result) - 1] += 1
            report.buckets[images.batch_bucket_size(result[:1], data.resolution)] += 1
    return report


def sizes_or_reason(data: DataConfig, record: Record) -> Sizes | str:
    """The sizes of a record's pictures, target first, or why it cannot be used."""
    paths = (record.target, *record.refs)
    resolutions = (data.resolution, *[data.ref_resolution] * len(record.refs))
    try:
        sizes = [picture_size(path) for path in paths]
        for path, size, resolution in zip(paths, sizes, resolutions, strict=True):
            bucket_array(path, images.bucket_size(*size, resolution))
        if record.mask:
            width, height = sizes[0]
            mask_array(record.mask, images.bucket_size(width, height, data.resolution), height / width)
        return sizes
    except READ_ERRORS as error:
        return str(error)
