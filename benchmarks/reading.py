"""Reading data: throughput per core against a bare PIL loop, sizes of a list's pictures, and the start of a
list of a million records.

python benchmarks/reading.py    # in CPU time, which other programs hardly disturb
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from uno_jax.data.batches import make_dataset
from uno_jax.data.config import DataConfig
from uno_jax.data.records import read_list
from uno_jax.data.sizes import with_sizes
from uno_jax.families.uno.conditioning import make_batch
from uno_jax.families.uno.config import PRESETS

MAKE_BATCH = partial(make_batch, PRESETS["flux_dev"])
PHOTOS = Path(__file__).parents[1] / "tests" / "assets" / "photos"
PICTURES, BATCH, ROUNDS, MILLION, SMALL = 32, 8, 3, 1_000_000, 20_000


def write_pictures(folder: Path) -> Path:
    """A list of pairs of 768x768 JPEG photos."""
    photos = sorted(PHOTOS.glob("*.jpg"))
    for number in range(PICTURES):
        with Image.open(photos[number % len(photos)]) as photo:
            photo.convert("RGB").resize((768, 768)).save(folder / f"{number}.jpg", quality=90)
    entries = [
        {"prompt": "a photo", "image_tgt_path": f"{n}.jpg", "image_paths": [f"{(n + 1) % PICTURES}.jpg"]}
        for n in range(PICTURES)
    ]
    (folder / "list.json").write_text(json.dumps(entries))
    return folder / "list.json"


def bare_seconds(folder: Path) -> float:
    """CPU seconds for decoding and resizing a picture, and nothing else."""
    start = time.process_time()
    for number in range(PICTURES):
        with Image.open(folder / f"{number}.jpg") as picture:
            np.asarray(picture.convert("RGB").resize((512, 512), Image.Resampling.LANCZOS))
    return (time.process_time() - start) / PICTURES


def settled() -> float:
    """The process's CPU seconds once its prefetching threads are idle with full buffers."""
    before = time.process_time()
    while True:
        time.sleep(0.5)
        if (now := time.process_time()) - before < 0.01:
            return now
        before = now


def pipeline_seconds(batches) -> float:
    """CPU seconds for a picture of `make_dataset`, all threads; buffers are full before and after."""
    start = settled()
    for _ in range(2 * PICTURES // BATCH):
        next(batches)
    return (settled() - start) / (4 * PICTURES)


def throughput() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_pictures(Path(folder))
        # Before any pipeline: its threads' time would be counted as the loop's.
        bare = min(bare_seconds(Path(folder)) for _ in range(ROUNDS))
        config = DataConfig(path=str(path), threads=1)
        batches = make_dataset(read_list(path), config, BATCH, MAKE_BATCH, 0)
        next(batches)  # loads the tokenizers
        grain = min(pipeline_seconds(batches) for _ in range(ROUNDS))
    print(f"bare loop {1 / bare:.0f} pictures/s a core; pipeline {1 / grain:.0f}, {bare / grain:.0%}")


def headers() -> None:
    """Wall-clock seconds for the sizes of small pictures, read from their headers and then kept."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8))
        for number in range(SMALL // 2):
            noise.save(folder / f"{number}.jpg")
            noise.save(folder / f"{number}.png")
        entries = [
            {"prompt": "a", "image_tgt_path": f"{n}.jpg", "image_paths": [f"{n}.png"]}
            for n in range(SMALL // 2)
        ]
        (folder / "list.json").write_text(json.dumps(entries))
        records = read_list(folder / "list.json")
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            with_sizes(records, folder)
            seconds.append(time.perf_counter() - start)
    print(f"sizes of {SMALL:,} pictures: {seconds[0]:.1f} s read, {seconds[1]:.1f} s kept")


def million(path: str) -> None:
    start, cpu = time.perf_counter(), time.process_time()
    batches = make_dataset(read_list(path, max_bad_share=1.0), DataConfig(path=path), 16, MAKE_BATCH, 0)
    batches.get_state()
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"a list of {MILLION:,} records: {wall:.1f} s ({cpu:.1f} s of CPU), {peak:.2f} GiB at most")


def main() -> None:
    if len(sys.argv) > 1:
        return million(sys.argv[1])
    throughput()
    headers()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.json"
        entry = '{"prompt": "%07d: a small red cup with a blue handle on a wooden table by the window", '
        entry += (
            '"image_paths": ["images/split1/%07d_ref.png"], "image_tgt_path": "images/split1/%07d_tgt.png"}'
        )
        with path.open("w") as file:
            file.write("[" + ",\n".join(entry % (n, n, n) for n in range(MILLION)) + "]")
        subprocess.run([sys.executable, __file__, str(path)], check=True)


if __name__ == "__main__":
    main()
