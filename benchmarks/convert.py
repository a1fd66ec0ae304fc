"""Conversion of a full-size FLUX.1-dev: speed against `cp` of the same file, and peak resident memory.

    python -m benchmarks.convert FOLDER      # needs 48 GB free there; what it writes is removed again

Writes 23.8 GB of random bfloat16 in the original naming, copies and converts it in turn, then converts
back and compares the files' digests. Every conversion runs the command in a process of its own.
"""

import argparse
import dataclasses
import hashlib
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict
from tqdm import tqdm

from tools.convert_weights import mapping
from tools.convert_weights.tables import flux
from uno_jax.networks.mmdit import MMDiTConfig
from uno_jax.networks.registry import abstract_params
from uno_jax.weights.safetensors_file import DTYPES, write_safetensors

CONVERT = (sys.executable, "-m", "tools.convert_weights", "flux")
GIB = 2**20  # in the KiB of ru_maxrss


def write_random(file: Path, config: MMDiTConfig) -> None:
    """A transformer of random finite numbers, tensor by tensor."""
    params = flatten_dict(abstract_params(config)[0])
    shapes = mapping.source_shapes(mapping.expand(flux.MODEL, config, flux.ORIGINAL), params)
    rng = np.random.default_rng(0)
    with tqdm(total=sum(map(math.prod, shapes.values())), desc="random weights", unit_scale=True) as bar:

        def tensor(name: str) -> np.ndarray:
            bar.update(size := math.prod(shapes[name]))
            bits = np.frombuffer(rng.bytes(2 * size), np.uint16) & 0xBFFF  # no infinities
            return bits.view(DTYPES["BF16"]).reshape(shapes[name])

        write_safetensors(
            file, {name: (DTYPES["BF16"], shape) for name, shape in shapes.items()}, tensor, {"format": "pt"}
        )


def run_command(*command: object) -> tuple[float, float]:
    """Seconds and peak resident GiB of a command, once the disk has written what came before."""
    os.sync()
    start = time.perf_counter()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(map(str, command))} failed")
    return time.perf_counter() - start, usage.ru_maxrss / GIB


def digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def measure(folder: Path, config: MMDiTConfig, rounds: int) -> None:
    source, model, back = folder / "flux.safetensors", folder / "model", folder / "back.safetensors"
    write_random(source, config)
    size = source.stat().st_size / 1e9
    print(f"{size:.1f} GB, {os.cpu_count()} cores", flush=True)
    for _ in range(rounds):
        copied, _ = run_command("cp", source, back)
        back.unlink()
        shutil.rmtree(model, ignore_errors=True)
        converted, memory = run_command(*CONVERT, "--src", source, "--dst", model)
        print(f"cp      {copied:4.0f} s  {size / copied:.2f} GB/s")
        print(f"convert {converted:4.0f} s  {size / converted:.2f} GB/s, peak {memory:.2f} GiB")
        print(f"  at {copied / converted:.2f} of the speed of cp", flush=True)
    expected = digest(source)
    source.unlink()
    exported, memory = run_command(*CONVERT, "--src", model, "--dst", back)
    same = "the same file" if digest(back) == expected else "A DIFFERENT FILE"
    print(f"back    {exported:4.0f} s  {size / exported:.2f} GB/s, peak {memory:.2f} GiB; {same}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--depth", type=int, default=19, help="double blocks")
    parser.add_argument("--depth-single-blocks", type=int, default=38)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    config = dataclasses.replace(
        MMDiTConfig(), depth=args.depth, depth_single_blocks=args.depth_single_blocks
    )
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        measure(Path(folder), config, args.rounds)


if __name__ == "__main__":
    main()
