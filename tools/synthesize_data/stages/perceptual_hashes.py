"""Perceptual hashes of targets, which find near-duplicates without comparing pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...common.manifest import Failed, Job, Json, Row, result_of
from ..config import SynthConfig
from ..pipeline.image_files import load_image
from ..pipeline.stage import Rows, Stage, no_settings

BITS = 64


def inputs(run: Rows) -> Iterator[Json]:
    for row in run.kept("filter-vlm"):
        if row.inputs["kind"] == "single":
            yield {"picture": row.inputs["second"]}


def batch_size(config: SynthConfig) -> int:
    return 64


class Hasher:
    """DCT hashes of 64 bits, as 16 hexadecimal digits."""

    def __init__(self, config: SynthConfig, folder: Path):
        self.folder = folder

    def __call__(self, jobs: Sequence[Job]) -> list[Json | Failed]:
        return [self.hash_picture(job.inputs["picture"]) for job in jobs]

    def hash_picture(self, path: str) -> Json | Failed:
        from imagehash import phash

        try:
            return {"phash": str(phash(load_image(self.folder, path)))}
        except OSError as error:
            return Failed(str(error))


STAGE = Stage("hashes", inputs, no_settings, Hasher, batch_size=batch_size)


def near_duplicates(rows: Sequence[Row], distance: int) -> dict[str, str]:
    """Maps pictures to the earlier picture that they repeat: hashes that differ in at most `distance` bits.

    Two such hashes agree in at least one of distance + 1 bands of bits: only those are compared.
    """
    bands = distance + 1
    edges = [BITS * band // bands for band in range(bands + 1)]
    seen: dict[tuple[int, int], list[tuple[int, str]]] = {}
    repeats: dict[str, str] = {}
    for row in rows:
        value, picture = int(result_of(row)["phash"], 16), row.inputs["picture"]
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
