"""Perceptual hashes of targets, so that near-duplicates are found without comparing pictures again."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...common.manifest import Failed, Job, Json, Row
from ..config import SynthConfig
from ..pipeline.image_files import load
from ..pipeline.stage import Stage

if TYPE_CHECKING:
    from ..pipeline.run import Run

BITS = 64


def inputs(run: "Run") -> Iterator[Json]:
    for row in run.kept("filter-vlm"):
        if row.inputs["kind"] == "single":
            yield {"picture": row.inputs["second"]}


class Hasher:
    """DCT hashes of 64 bits, as 16 hexadecimal digits."""

    def __init__(self, config: SynthConfig, folder: Path):
        self.folder = folder

    def __call__(self, jobs: Sequence[Job]) -> list[Json | Failed]:
        return [self.hash(job.inputs["picture"]) for job in jobs]

    def hash(self, path: str) -> Json | Failed:
        from imagehash import phash

        try:
            return {"phash": str(phash(load(self.folder, path)))}
        except OSError as error:
            return Failed(str(error))


STAGE = Stage("hashes", inputs, lambda config: None, Hasher, batch_size=lambda config: 64)


def near_duplicates(rows: Sequence[Row], distance: int) -> dict[str, str]:
    """Pictures -> the earlier picture that each repeats, where hashes differ in `distance` bits at most.

    Two hashes that near agree in at least one of distance + 1 bands of bits: only those are compared.
    """
    bands = distance + 1
    edges = [BITS * band // bands for band in range(bands + 1)]
    seen: dict[tuple[int, int], list[tuple[int, str]]] = {}
    repeats: dict[str, str] = {}
    for row in rows:
        value, picture = int(row.result["phash"], 16), row.inputs["picture"]
        keys = [
            (band, value >> edges[band] & (1 << edges[band + 1] - edges[band]) - 1) for band in range(bands)
        ]
        near = (
            other
            for key in keys
            for number, other in seen.get(key, ())
            if (number ^ value).bit_count() <= distance
        )
        if (first := next(near, None)) is not None:
            repeats[picture] = first
            continue
        for key in keys:
            seen.setdefault(key, []).append((value, picture))
    return repeats
