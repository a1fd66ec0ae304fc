"""DreamBench in small: random encoders of transformers, converted; drawn photos; a list of five prompts."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, ViTConfig, ViTModel

from tests.tools.convert_weights.command import run as convert
from uno_jax.evaluation.dreambench import prompts as dreambench

SIDE = 32
VISION = dict(
    hidden_size=24,
    intermediate_size=48,
    num_hidden_layers=1,
    num_attention_heads=2,
    patch_size=8,
    image_size=SIDE,
)
TEXT = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
SUBJECTS = ("backpack", "can", "cat", "dog")


def make_modules() -> tuple[ViTModel, CLIPModel]:
    """DINO and CLIP of transformers, tiny and random."""
    torch.manual_seed(0)
    dino = ViTModel(ViTConfig(**VISION), add_pooling_layer=False).eval()
    clip = CLIPModel(CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=12)).eval()
    for module in (dino, clip):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter) / 5)
    return dino, clip


def write_encoders(folder: Path, modules: tuple[ViTModel, CLIPModel]) -> Path:
    """The same networks, converted by the command."""
    for name, module in zip(("dino", "clip"), modules, strict=True):
        module.save_pretrained(folder / "torch" / name)
        assert convert("vit", "--src", folder / "torch" / name, "--dst", folder / name) == 0
    source = folder / "torch/clip"
    assert convert("clip", "--projection", "--src", source, "--dst", folder / "clip") == 0
    return folder


def write_photos(folder: Path) -> Path:
    """Photos of noise in differing shapes: four of each of SUBJECTS, the reference's alone of the others."""
    folder.mkdir(exist_ok=True)
    for number, (subject, (*_, reference)) in enumerate(dreambench.description()["subjects"].items()):
        (folder / subject).mkdir()
        names = [f"{index:02d}.jpg" for index in range(3)] if subject in SUBJECTS else [reference]
        for index, name in enumerate(names):
            noise = np.random.default_rng([number, index]).integers(0, 255, (4, 5 + index, 3), np.uint8)
            Image.fromarray(noise).resize((50, 40 + 7 * index)).save(folder / subject / name, quality=95)
        if reference not in names:
            shutil.copy(folder / subject / names[0], folder / subject / reference)
    return folder


def write_list(path: Path) -> Path:
    """Five prompts in UNO's form; of one, two, and three subjects."""
    path.write_text(
        json.dumps(
            [
                {"prompt": "a backpack in the jungle", "image_paths": ["./any/where/backpack/02.jpg"]},
                {"prompt": "a can on the beach", "image_paths": ["x/can/01.jpg"]},
                {"prompt": "a cat and a dog in the snow", "image_paths": ["x/cat/04.jpg", "x/dog/02.jpg"]},
                {"prompt": "a red bowl and a red can", "image_paths": ["backpack/02.jpg", "can/01.jpg"]},
                {"prompt": "mine", "image_paths": ["cat/04.jpg", "can/01.jpg", "dog/02.jpg"]},
            ]
        )
    )
    return path
