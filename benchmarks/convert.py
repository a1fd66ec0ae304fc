"""Conversion of a full-size model: speed against `cp` of the same files, and peak resident memory.

    python -m benchmarks.convert FOLDER                    # FLUX.1-dev: 48 GB free there
    python -m benchmarks.convert FOLDER --model scone      # BAGEL: 60 GB

Writes random bfloat16 in the original naming (FLUX: 23.8 GB, BAGEL: 29.4 GB), copies and converts it in turn,
then converts back and compares every tensor's digest. What it writes is removed again, and never more than
two copies lie there at once. Every conversion runs the command in a process of its own.
"""

import argparse
import dataclasses
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from flax.traverse_util import flatten_dict
from tokenizers.pre_tokenizers import ByteLevel
from tqdm import tqdm

from tools.convert_weights import mapping
from tools.convert_weights.scone import AUTOENCODER
from tools.convert_weights.tables import flux, mot, vae
from uno_jax.families.scone.config import EYES
from uno_jax.networks.mmdit_config import MMDiTConfig
from uno_jax.networks.mot import MoTConfig
from uno_jax.networks.registry import NetworkConfig, abstract_params
from uno_jax.networks.vae import VAEConfig
from uno_jax.weights.safetensors_file import DTYPES, read_header, write_safetensors

GIB = 2**20  # in the KiB of ru_maxrss
Result = TypeVar("Result")
Networks = list[tuple[mapping.Model, NetworkConfig]]


def write_random(file: Path, networks: Networks) -> None:
    """Networks of random finite numbers, tensor by tensor."""
    shapes: mapping.Shapes = {}
    for model, config in networks:
        params = flatten_dict(abstract_params(config)[0])
        entries = mapping.expand(model, config, model.namings[0])
        found = mapping.source_shapes(entries, params)
        shapes |= {model.written_prefix + name: shape for name, shape in found.items()}
    rng = np.random.default_rng(0)
    with tqdm(total=sum(map(math.prod, shapes.values())), desc="random weights", unit_scale=True) as bar:

        def tensor(name: str) -> np.ndarray:
            bar.update(size := math.prod(shapes[name]))
            bits = np.frombuffer(rng.bytes(2 * size), np.uint16) & 0xBFFF  # no infinities
            return bits.view(DTYPES["BF16"]).reshape(shapes[name])

        header = {name: (DTYPES["BF16"], shape) for name, shape in shapes.items()}
        write_safetensors(file, header, tensor, {"format": "pt"})


def write_flux(folder: Path, layers: int) -> Path:
    """FLUX.1-dev's transformer with as many double blocks, and twice as many single ones."""
    config = dataclasses.replace(MMDiTConfig(), depth=layers, depth_single_blocks=2 * layers)
    write_random(folder / "flux.safetensors", [(flux.MODEL, config)])
    return folder / "flux.safetensors"


def write_bagel(folder: Path, layers: int) -> Path:
    """BAGEL's folder, with a tokenizer of single bytes."""
    first = min(MoTConfig().bridge_layer, layers - 1)
    config = dataclasses.replace(MoTConfig(), num_layers=layers, bridge_layer=first)
    write_random(folder / "ema.safetensors", [(mot.MODEL, config), (mot.EYES, EYES)])
    write_random(folder / AUTOENCODER, [(vae.MODEL, VAEConfig())])
    (folder / "config.json").write_text(json.dumps({"semantic_mask": {"early_layer_idx": first}}))
    letters = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
    (folder / "vocab.json").write_text(json.dumps(letters))
    (folder / "merges.txt").write_text("")
    return folder


MODELS = {"flux": (write_flux, 19), "scone": (write_bagel, 28)}
"""What writes a source, and the number of its layers."""


class Ended(NamedTuple):
    """Seconds of a command, those of CPU time, and its peak resident GiB."""

    seconds: float
    cpu: float
    memory: float


def run_command(*command: object) -> Ended:
    """Runs a command, once the disk has written what came before."""
    os.sync()
    start = time.perf_counter()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(map(str, command))} failed")
    cpu = usage.ru_utime + usage.ru_stime
    return Ended(time.perf_counter() - start, cpu, usage.ru_maxrss / GIB)


def size_of(source: Path) -> float:
    """Gigabytes of a file, or of those in a folder."""
    return sum(file.stat().st_size for file in [source, *source.glob("*")] if file.is_file()) / 1e9


def digests(file: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and SHA-256 of each tensor of a file."""
    found = {}
    for name, tensor in read_header(file)[0].items():
        found[name] = tensor.shape, hashlib.sha256(tensor.read().view(np.uint8).data).hexdigest()
    return found


def in_new_process(function: Callable[..., Result], *arguments: object) -> Result:
    """A function's result from a process of its own: Linux counts a parent's memory as its child's."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure(folder: Path, model: str, layers: int, rounds: int) -> None:
    given, converted_to, back = folder / "source", folder / "model", folder / "back.safetensors"
    given.mkdir()
    source = in_new_process(MODELS[model][0], given, layers)
    convert = (sys.executable, "-m", "tools.convert_weights", model)
    size, copy = size_of(source), folder / "copy"
    print(f"{size:.1f} GB, {os.cpu_count()} cores", flush=True)
    for _ in range(rounds):
        shutil.rmtree(converted_to, ignore_errors=True)
        copied = run_command("cp", "-r", source, copy)
        shutil.rmtree(copy) if copy.is_dir() else copy.unlink()
        converted = run_command(*convert, "--src", source, "--dst", converted_to)
        print(f"cp      {_line(copied, size)}")
        print(f"convert {_line(converted, size)}")
        print(f"  at {copied.seconds / converted.seconds:.2f} of the speed of cp", flush=True)
    given_digests = in_new_process(digests, source if source.is_file() else source / "ema.safetensors")
    shutil.rmtree(given)
    exported = run_command(*convert, "--src", converted_to, "--dst", back)
    found = in_new_process(digests, back)
    wrong = [name for name, digest in given_digests.items() if found.get(name) != digest]
    same = f"OTHER TENSORS: {', '.join(wrong[:3])}" if wrong else "the same tensors"
    size = back.stat().st_size / 1e9
    print(f"back    {_line(exported, size)}; {same}")


def _line(ended: Ended, size: float) -> str:
    speed = f"{size / ended.seconds:.2f} GB/s"
    return f"{ended.seconds:4.0f} s ({ended.cpu:.0f} s of CPU)  {speed}, peak {ended.memory:.2f} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=MODELS, default="flux")
    parser.add_argument("--layers", type=int, help="double blocks of FLUX, layers of BAGEL; default: all")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        measure(Path(folder), args.model, args.layers or MODELS[args.model][1], args.rounds)


if __name__ == "__main__":
    main()
