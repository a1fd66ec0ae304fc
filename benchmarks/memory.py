"""Memory that stays: resident memory of long runs of the tiny model with random weights, on the CPU.

    python -m benchmarks.memory shapes --shapes 200 --pictures 10    # references of many shapes
    python -m benchmarks.memory jobs --pictures 1200000    # start of uno-sample with a long list
    python -m benchmarks.memory same --pictures 300                 # pictures of one shape

Prints MB: after warm-up, the peak, and their difference.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
from PIL import Image

from tests.tiny_model import write_model
from uno_jax.sampling.generate import sample_batch
from uno_jax.sampling.request import Request, make_settings
from uno_jax.sampling.run import prepare_work
from uno_jax.sampling.settings import SampleArgs
from uno_jax.weights.load import load_model
from uno_jax.weights.sample_mesh import mesh_of

WARM_UP = 8  # shapes, as many as `bounded_jit` keeps
STRIDE = 16


def resident() -> float:
    """Resident memory of this process in MB (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak() -> float:
    """The most that it has been, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def reference_sizes(count: int) -> Iterator[tuple[int, int]]:
    """(width, height) of references, all different."""
    return ((STRIDE * (1 + i // 25), STRIDE * (1 + i % 25)) for i in range(count))


def draw(folder: Path, shapes: int, pictures: int) -> None:
    """Draws `pictures` pictures of 64x64 for each of `shapes` references, in batches of 2, with one step."""
    model = load_model(write_model(folder), None)
    settings = make_settings(model.config, None, {"steps": 1})
    warm, start = 0.0, time.monotonic()
    with jax.set_mesh(mesh_of(model)):
        for number, size in enumerate(reference_sizes(shapes), 1):
            ref = Image.new("RGB", size, "gray")
            for seed in range(0, pictures, 2):
                requests = [Request("a cat", (ref,), 64, 64, seed + i) for i in range(2)]
                sample_batch(model, requests, settings)
                if number == min(WARM_UP, shapes) and not seed:
                    warm = resident()
            if number % 25 == 0 or number == shapes:
                seconds = time.monotonic() - start
                print(f"{number} shapes, {seconds:.0f} s: {resident():.0f} MB", flush=True)
    print(f"after warm-up {warm:.0f} MB, peak {peak():.0f} MB, grown by {peak() - warm:.0f} MB")


def start_list(folder: Path, pictures: int) -> None:
    """Checks a job list of `pictures` entries with 50 steps, up to where weights would be loaded."""
    model, photo, jobs = write_model(folder / "model"), folder / "a.png", folder / "jobs.jsonl"
    Image.new("RGB", (64, 64), "gray").save(photo)
    with jobs.open("w") as file:
        for number in range(pictures):
            file.write(json.dumps({"prompt": f"a photo of cat {number}", "image_paths": ["a.png"]}) + "\n")
    args = SampleArgs(model=str(model), lora=("none",), jobs=jobs, out=folder / "out", steps=50)
    warm, start = resident(), time.monotonic()
    work = prepare_work(args)
    print(f"{len(work.outputs)} pictures checked in {time.monotonic() - start:.0f} s")
    print(f"before {warm:.0f} MB, peak {peak():.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("shapes", "same", "jobs"))
    parser.add_argument("--shapes", type=int, default=200)
    parser.add_argument("--pictures", type=int, default=10, help="pictures of each shape, or of the list")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        if args.what == "jobs":
            start_list(Path(place), args.pictures)
        else:
            draw(Path(place), args.shapes if args.what == "shapes" else 1, args.pictures)


if __name__ == "__main__":
    main()
