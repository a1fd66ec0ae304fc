"""DreamBench's 750 prompts over a drawn folder: a run killed three times must end like an undisturbed one.

    python -m benchmarks.dreambench FOLDER --model small

The photos are drawn toys under DreamBench's names, three of each subject; the encoders have the sizes of DINO
ViT-S/16 and CLIP ViT-B/32 and random weights: the scores mean nothing. Exits 1 when scores.json differs.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, ViTConfig, ViTModel

from uno_jax.evaluation.dreambench.prompts import description
from uno_jax.toybox import load_subjects, pair

PHOTOS, SIDE, KILLS = 3, 128, 3


def draw_photos(folder: Path) -> None:
    """A toy of the validation split for each of DreamBench's subjects, in three scenes."""
    toys = load_subjects(split="val")
    for number, (subject, (*_, reference)) in enumerate(description()["subjects"].items()):
        (folder / subject).mkdir(parents=True)
        for index in range(PHOTOS):
            sample = pair(np.random.default_rng([number, index]), [toys[number]], SIDE)
            name = reference if index == 0 else f"more{index}.jpg"
            Image.fromarray(sample.target).save(folder / subject / name, quality=95)


def write_encoders(folder: Path) -> None:
    """Random networks, saved by transformers and converted by the project's command."""
    torch.manual_seed(0)
    sizes = ViTConfig(hidden_size=384, intermediate_size=1536, num_attention_heads=6)
    ViTModel(sizes, add_pooling_layer=False).save_pretrained(folder / "torch/dino")
    CLIPModel(CLIPConfig()).save_pretrained(folder / "torch/clip")
    for command, name in (("vit", "dino"), ("vit", "clip"), ("clip", "clip")):
        more = ["--projection"] if command == "clip" else []
        where = ["--src", folder / "torch" / name, "--dst", folder / name]
        call("tools.convert_weights", command, *more, *where)


def call(module: str, *words: object) -> None:
    subprocess.run([sys.executable, "-m", module, *map(str, words)], check=True, capture_output=True)


def evaluate(args: argparse.Namespace, out: Path) -> list[str]:
    where = ["--data", args.folder / "photos", "--encoders", args.folder / "encoders", "--out", out]
    words = ["--suite", "dreambench-single", "--model", args.model, "--steps", args.steps, *where]
    return [sys.executable, "-m", "uno_jax.evaluate", *map(str, words), "--batch-size", "16"]


def drawn(out: Path) -> int:
    return sum(1 for _ in out.glob("*_0.json"))


def killed(command: list[str], out: Path, delay: float) -> int:
    """Kills the run `delay` seconds after its first new picture; returns the number of pictures then."""
    before = drawn(out)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and drawn(out) == before:
        time.sleep(0.05)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return drawn(out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder for what the runs write; empty or absent")
    parser.add_argument("--model", default="small")
    parser.add_argument("--steps", type=int, default=25)
    args = parser.parse_args()
    draw_photos(args.folder / "photos")
    write_encoders(args.folder / "encoders")
    whole, disturbed = args.folder / "whole", args.folder / "disturbed"
    start = time.perf_counter()
    subprocess.run(evaluate(args, whole), check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    print(f"undisturbed: {drawn(whole)} pictures, {seconds:.0f} s with scores")
    rng = random.Random(0)
    for number in range(KILLS):
        count = killed(evaluate(args, disturbed), disturbed, rng.uniform(0, seconds / (2 * KILLS)))
        print(f"kill {number + 1}: {count} pictures", flush=True)
    subprocess.run(evaluate(args, disturbed), check=True, stdout=subprocess.DEVNULL)
    one, two = ((run / "scores.json").read_text() for run in (whole, disturbed))
    shutil.rmtree(args.folder / "encoders/torch")
    print(f"{len(json.loads(one)['rows'])} rows: {'the same file' if one == two else 'DIFFERENT'}")
    sys.exit(int(one != two))


if __name__ == "__main__":
    main()
