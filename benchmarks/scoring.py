"""Features for scores against transformers, on the same weights and pictures: preparation and network.

    python -m benchmarks.scoring

DINO ViT-S/16 and CLIP ViT-B/32, random, float32, batches of 16, in one process on one core, taking turns,
after a check that both sides agree.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, ViTConfig, ViTModel
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from benchmarks.measure import least_cpu_seconds, on_one_core, table
from tools.convert_weights.convert import convert, plan
from tools.convert_weights.encoders import open_encoder
from tools.convert_weights.tables import vit
from uno_jax.evaluation.encoders import BATCH, Encoder, image_features, load_encoder
from uno_jax.support.command_line import parse_args

TOLERANCE = 2e-5
SIDE = 512  # of the pictures


@dataclass(frozen=True)
class Args:
    """Time the features of one batch of pictures."""

    rounds: int = 8
    """Number of timed calls of each side."""


def networks() -> dict[str, tuple[torch.nn.Module, Callable]]:
    """Name -> transformers' module of the published size and its processor."""
    torch.manual_seed(0)
    dino = ViTModel(
        ViTConfig(hidden_size=384, intermediate_size=1536, num_attention_heads=6), add_pooling_layer=False
    )
    prepare = BitImageProcessorPil(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        resample=Image.Resampling.BICUBIC,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    clip = CLIPVisionModelWithProjection(CLIPVisionConfig(projection_dim=512))
    return {
        "DINO ViT-S/16": (dino.eval(), prepare),
        "CLIP ViT-B/32": (clip.eval(), CLIPImageProcessorPil()),
    }


def converted(module: torch.nn.Module) -> Encoder:
    """The same network of ours, converted through files."""
    with tempfile.TemporaryDirectory() as folder:
        source, directory = Path(folder) / "torch", Path(folder) / "encoder"
        module.save_pretrained(source)
        convert(plan(vit.MODEL, open_encoder(source)), directory)
        return load_encoder(directory)


def theirs(module: torch.nn.Module, prepare: Callable, pictures: list[np.ndarray]) -> np.ndarray:
    images = [Image.fromarray(picture) for picture in pictures]
    pixels = torch.from_numpy(prepare(images, return_tensors="np")["pixel_values"])
    with torch.inference_mode():
        found = module(pixels)
    features = found.image_embeds if "image_embeds" in found else found.last_hidden_state[:, 0]
    return (features / features.norm(dim=-1, keepdim=True)).numpy()


def main() -> None:
    args = parse_args(Args, "python -m benchmarks.scoring", None)
    on_one_core()
    torch.set_num_threads(1)
    noise = np.random.default_rng(0)
    small = [noise.integers(0, 255, (32, 32, 3), np.uint8) for _ in range(BATCH)]
    pictures = [np.asarray(Image.fromarray(each).resize((SIDE, SIDE))) for each in small]
    rows = []
    for name, (module, prepare) in networks().items():
        encoder = converted(module)
        cases = {
            "ours": lambda encoder=encoder: image_features(encoder, pictures),
            "theirs": lambda module=module, prepare=prepare: theirs(module, prepare, pictures),
        }
        difference = float(np.abs(cases["ours"]() - cases["theirs"]()).max())
        if difference > TOLERANCE:
            sys.exit(f"{name}: features differ by {difference:.1e}")
        seconds = least_cpu_seconds(cases, args.rounds)
        each = {side: f"{BATCH / value:.1f}" for side, value in seconds.items()}
        ratio = f"{seconds['theirs'] / seconds['ours']:.2f}x"
        rows.append([name, each["ours"], each["theirs"], ratio, f"{difference:.1e}"])
    head = [
        "pictures of 512x512 per CPU second",
        "uno_jax",
        "transformers",
        "uno_jax is faster",
        "difference",
    ]
    print(table(head, rows))


if __name__ == "__main__":
    main()
