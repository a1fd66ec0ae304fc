"""A short LoRA run of the `tiny` model on real photos; squares, so that one shape is compiled."""

import json
import signal
from pathlib import Path

from PIL import Image

from tests.tiny_model import write_model
from uno_jax.data.config import DataConfig
from uno_jax.families.uno.config import LoraConfig, UnoPE
from uno_jax.training import loop
from uno_jax.training.config import OptimConfig, TrainConfig

PHOTOS = Path(__file__).parent / "assets" / "photos"


def write_pairs(folder: Path) -> Path:
    """A list of four pairs with one reference each, beside their pictures."""
    names = ["chelsea", "coffee", "astronaut", "rocket"]
    entries = [
        {"prompt": f"a photo of {name}", "image_paths": [f"{name}.jpg"], "image_tgt_path": f"{other}.jpg"}
        for name, other in zip(names, names[1:] + names[:1], strict=True)
    ]
    for name in names:
        Image.open(PHOTOS / f"{name}.jpg").resize((96, 96)).save(folder / f"{name}.jpg")
    (folder / "pairs.json").write_text(json.dumps(entries))
    return folder / "pairs.json"


def stop_after_first_step(patch) -> None:
    """SIGTERM, once the first step was reported: by then the second has been started."""

    def preempted(config, step, *rest, check=loop.check_skipped):
        check(config, step, *rest)
        if step.number == 1:
            signal.raise_signal(signal.SIGTERM)

    patch.setattr(loop, "check_skipped", preempted)


def make_recipe(folder: Path) -> TrainConfig:
    """Weights and pairs in `folder`, and the run that trains on them in `folder`/whole."""
    return TrainConfig(
        workdir=str(folder / "whole"),
        preset="tiny",
        weights=str(write_model(folder / "weights")),
        lora=LoraConfig(rank=4, single_idx=(0,)),
        unope=UnoPE("h", 2.0),
        data=DataConfig(path=str(write_pairs(folder)), resolution=64, ref_resolution=32),
        optim=OptimConfig(learning_rate=1e-2),
        batch_size=2,
        steps=4,
        dtype="float32",
        remat="full",
        log_every=1,
        checkpoint_every=2,
    )
