"""What the small model's autoencoder loses: PSNR of held-out subjects' pictures, encoded and decoded.

    python -m benchmarks.autoencoder                       # the shipped one
    python -m benchmarks.autoencoder --vae runs/small/model/vae

Pictures have 128 pixels a side.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from uno_jax.families.latents import decode_image, encode_image
from uno_jax.families.model import Model
from uno_jax.families.registry import PRESETS
from uno_jax.support.images import to_array
from uno_jax.toybox import load_subjects, pair
from uno_jax.weights.checkpoint import restore_network
from uno_jax.weights.names import FOLDER


def decibels(vae: Path, count: int, seed: int) -> np.ndarray:
    """The PSNR of each of `count` targets of pairs."""
    subjects = load_subjects(split="val")
    targets = (pair(np.random.default_rng([seed, i]), subjects, 128, 1).target for i in range(count))
    pictures = np.stack([to_array(Image.fromarray(target)) for target in targets])
    config, params = restore_network(vae, dtype=np.float32)
    model = Model(replace(PRESETS["small"], vae=config), {"vae": params})
    decoded = np.clip(np.asarray(decode_image(model, encode_image(model, pictures))), -1, 1)
    return -10 * np.log10((((decoded - pictures) / 2) ** 2).mean((1, 2, 3)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vae", type=Path, default=FOLDER / "vae")
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found = decibels(args.vae, args.count, args.seed)
    print(
        f"{args.vae}: {found.mean():.2f} dB on average over {len(found)} pictures, {found.min():.1f} at worst"
    )


if __name__ == "__main__":
    main()
