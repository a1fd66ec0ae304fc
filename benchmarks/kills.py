"""Runs killed with SIGKILL at random moments: after resuming, the LoRA must equal an undisturbed run's.

    python -m benchmarks.kills FOLDER --runs 20      # about ten minutes on two cores

Every step saves a checkpoint, so that many kills fall into a save. Then one run is stopped with SIGTERM, for
the seconds that it takes to save and leave. Prints a line a run; exits 1 on a difference.
"""

import argparse
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

from uno_jax.weights.checkpoint import restore_lora

STEPS = 12
COMMON = ("--preset", "tiny", "--data.resolution", "64", "--data.ref-resolution", "32", "--dtype", "float32")


def train(workdir: Path, folder: Path, *settings: object) -> list[str]:
    """The command of a run on the folder's pairs."""
    recipe = (
        "--config",
        "configs/uno_stage1.py",
        "--workdir",
        workdir,
        "--data.path",
        folder / "pairs/pairs.json",
    )
    return [str(word) for word in (sys.executable, "-m", "uno_jax.train", *recipe, *COMMON, *settings)]


def lora_run(workdir: Path, folder: Path) -> list[str]:
    """The run that is killed: twelve LoRA steps on the base that `prepare_base` made."""
    often = ("--steps", STEPS, "--checkpoint-every", 1, "--log-every", 1, "--batch-size", 2, "--lora.rank", 4)
    return train(workdir, folder, "--weights", folder / "base/model", "--optim.learning-rate", "1e-2", *often)


def prepare_base(folder: Path) -> None:
    """Makes pairs and a tiny base model: an autoencoder, then the rest, one step each."""
    pairs = ("--out", folder / "pairs", "--count", 6, "--size", 64)
    once = ("--steps", 1, "--batch-size", 2)
    autoencoder = ("--objective", "autoencoder", "--trainable", "vae/.*", "--weights", "")
    rest = ("--trainable", "mmdit/.*", "t5/.*", "clip/.*", "--weights", folder / "vae/model")
    for command in (
        [str(word) for word in (sys.executable, "-m", "uno_jax.toybox", *pairs)],
        train(folder / "vae", folder, *once, *autoencoder),
        train(folder / "base", folder, *once, *rest),
    ):
        subprocess.run(command, check=True, capture_output=True)


def trained(workdir: Path) -> bytes:
    """Every array of a finished run's LoRA, one after another."""
    _, lora = restore_lora(workdir / "lora")
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(lora))


def begin(workdir: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Starts a run and waits until its first save begins: before it a kill cannot harm anything."""
    process = subprocess.Popen(
        lora_run(workdir, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not any((workdir / "checkpoints").glob("*")):
        time.sleep(0.01)
    return process


def killed_run(workdir: Path, folder: Path, delay: float) -> int:
    """Kills a run `delay` seconds after its first save began, and finishes it. Returns the steps that were
    saved at the kill.
    """
    process = begin(workdir, folder)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    saved = [int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit()]
    subprocess.run(lora_run(workdir, folder), check=True, capture_output=True)
    return max(saved, default=0)


def stopped_run(workdir: Path, folder: Path) -> float:
    """Seconds from SIGTERM to the end of a run, which must leave with code 0; then finishes it."""
    process = begin(workdir, folder)
    start = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    if code := process.wait():
        sys.exit(f"stopped with SIGTERM, the run left with code {code}")
    seconds = time.perf_counter() - start
    subprocess.run(lora_run(workdir, folder), check=True, capture_output=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder for what the runs write; empty or absent")
    parser.add_argument("--runs", type=int, default=20)
    args = parser.parse_args()
    prepare_base(args.folder)
    subprocess.run(lora_run(args.folder / "warm", args.folder), check=True, capture_output=True)
    whole = begin(args.folder / "whole", args.folder)
    start = time.perf_counter()
    if whole.wait():
        sys.exit("the undisturbed run failed")
    seconds = time.perf_counter() - start
    expected, rng = trained(args.folder / "whole"), random.Random(0)
    print(f"undisturbed: {seconds:.1f} s from the first save on, {len(expected)} bytes")
    different = 0
    for number in range(args.runs):
        delay = rng.uniform(0, seconds)
        saved = killed_run(args.folder / f"run{number}", args.folder, delay)
        same = trained(args.folder / f"run{number}") == expected
        different += not same
        verdict = "same" if same else "DIFFERENT"
        print(f"run {number}: killed after {delay:.1f} s with step {saved} saved: {verdict}", flush=True)
    seconds = stopped_run(args.folder / "stopped", args.folder)
    same = trained(args.folder / "stopped") == expected
    different += not same
    print(f"stopped with SIGTERM: left after {seconds:.1f} s: {'same' if same else 'DIFFERENT'}")
    print(f"{args.runs + 1} runs, {different} different")
    sys.exit(int(different > 0))


if __name__ == "__main__":
    main()
