"""What cases are given: tiny valid lists, models, runs and results, each made once and then copied.

Names in one part never meet those of another: a case may ask for several.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Run = Callable[..., None]
"""Runs a command in a folder: run(command, *words, cwd=folder)."""

RECIPE = """
from uno_jax.families.uno.config import LoraConfig
from uno_jax.training.config import DataConfig, TrainConfig

def get_config():
    return TrainConfig(
        workdir="new", weights="small", batch_size=1, steps=1,
        lora=LoraConfig(rank=2, double_idx=(0,), single_idx=()),
        data=DataConfig(path="pairs.json", resolution=32, ref_resolution=32),
    )
"""
ABLATION = (
    RECIPE.replace("def get_config", "def recipe")
    + """

from uno_jax.ablation.grid import Ablation, Score, Variant

def get_config():
    score = Score("a", "toy", ("efficientnet_lite0", "single", "model", "top1"))
    return Ablation("small", (Variant("one", (recipe(),)),), {"toy": ("--count", "2")}, (score,))
"""
)
PAIRS = [
    {"prompt": f"a toy {index}", "image_paths": [f"{index}.png"], "image_tgt_path": f"{3 - index}.png"}
    for index in range(4)
]
SCORE = {"mean": 0.5, "interval": [0.4, 0.6], "groups": {"dog": 0.5}, "categories": {"live": 0.5}}
ROW = {"picture": "0_0.png", "subjects": ["dog"], "prompt": "a dog", "category": "live", "dino": 0.5}
SCORES = {"suite": "dreambench-single", "scores": {"dino": SCORE}, "rows": [ROW], "seed": 1}
STEPS = [{"step": number, "loss": 1.0 / number, "images/s": 2.0} for number in (1, 2, 3)]


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def draw(path: Path, seed: int = 0, side: int = 48) -> None:
    """A picture of coloured noise in squares."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, 3), np.uint8)
    Image.fromarray(noise).resize((side, side), Image.Resampling.NEAREST).save(path)


def _pairs(folder: Path, run: Run) -> None:
    for index in range(4):
        draw(folder / f"{index}.png", index)
    write_json(folder / "pairs.json", PAIRS)


def _recipe(folder: Path, run: Run) -> None:
    (folder / "recipe.py").write_text(RECIPE)


def _ablation(folder: Path, run: Run) -> None:
    (folder / "ablation.py").write_text(ABLATION)


def _bank(folder: Path, run: Run) -> None:
    words = ("--per-scene", "1", "--side", "64", "--processes", "1", "--out", "bank.npz")
    run("uno_jax.toybox.device", *words, cwd=folder)


def _drawn(folder: Path, run: Run) -> None:
    for index in range(4):
        draw(folder / "drawn" / f"{index}_0.png", index)


def _dreambench(folder: Path, run: Run) -> None:
    draw(folder / "photos" / "dog" / "00.jpg")
    write_json(folder / "list.json", [{"prompt": "a dog on a beach", "image_paths": ["dog/00.jpg"]}])


def _evaluated(folder: Path, run: Run) -> None:
    draw(folder / "evaluated" / "0_0.png")
    draw(folder / "evaluated" / "dog" / "00.png")
    write_json(folder / "evaluated" / "scores.json", SCORES)
    write_json(
        folder / "evaluated" / "prompts.json", [{"prompt": "a dog", "image_paths": ["evaluated/dog/00.png"]}]
    )


def _finished(folder: Path, run: Run) -> None:
    (folder / "finished").mkdir(parents=True)
    (folder / "finished" / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in STEPS))


def _model(folder: Path, run: Run) -> None:
    """The shipped model, in folders of safetensors."""
    run("tools.convert_weights", "pack", "--model", "small", "--dst", "model", cwd=folder)


def _sources(folder: Path, run: Run) -> None:
    """The shipped model's networks and LoRA, as other programs name them; tiny text encoders, since the
    shipped ones do not store their tokens' embeddings.
    """
    from tests.tiny_model import TINY
    from tests.tiny_model import random_params as random_network
    from uno_jax.weights.checkpoint import save_network

    for kind, config in (("t5", TINY.t5), ("clip", TINY.clip)):
        save_network(folder / "written" / kind, config, random_network(config, 0))
    for kind, source in (("flux", "small"), ("vae", "small"), ("t5", "written"), ("clip", "written")):
        place = f"sources/{kind}.safetensors"
        run("tools.convert_weights", kind, "--src", source, "--dst", place, cwd=folder)
    shutil.rmtree(folder / "written")
    words = ("export-lora", "--src", "small", "--dst", "sources/lora.safetensors", "--format", "uno")
    run("tools.convert_weights", *words, cwd=folder)


def _scone(folder: Path, run: Run) -> None:
    """A tiny model with random weights and a token for every byte, in folders of safetensors."""
    _write_scone(folder / "written")
    run("tools.convert_weights", "pack", "--model", "written", "--dst", "scone", cwd=folder)
    shutil.rmtree(folder / "written")


def _bagel(folder: Path, run: Run) -> None:
    """The same model in BAGEL's files."""
    from tests.tools.convert_weights.bagel import write_bagel

    _write_scone(folder / "written")
    write_bagel(folder / "bagel", folder / "written")
    shutil.rmtree(folder / "written")


def _write_scone(folder: Path) -> None:
    from tests.tiny_model import random_params as random_network
    from tests.tiny_scone import write_tokenizer
    from tests.tools.convert_weights.bagel import PARTS as NETWORKS
    from uno_jax.families.scone.config import SconeDefaults
    from uno_jax.weights.checkpoint import save_network

    defaults = SconeDefaults(resolution=32, ref_size=64, ref_vit_size=12, points=3)
    for kind, config in NETWORKS.items():
        save_network(folder / kind, config, random_network(config, 0), defaults=defaults)
    write_tokenizer(folder / "tokenizer")


def _turns(folder: Path, run: Run) -> None:
    turns = [{"text": "a"}, {"image_path": "0.png"}, {"text": "b"}]
    write_json(folder / "turns.json", [{"turns": turns, "seed": 1}])


def _scorer(folder: Path, run: Run) -> None:
    run("tools.convert_weights", "efficientnet", "--dst", "scorer", cwd=folder)


def _encoders(folder: Path, run: Run) -> None:
    """DINO and CLIP of one block with random weights."""
    from uno_jax.networks.clip import CLIPConfig
    from uno_jax.networks.registry import abstract_params
    from uno_jax.networks.vit import ViTConfig
    from uno_jax.weights.checkpoint import save_network

    sizes = {"hidden_size": 24, "intermediate_size": 48, "num_layers": 1, "num_heads": 2}
    vit = ViTConfig(patch_size=8, grid=4, projection=12, resolution=32, shortest_side=32, **sizes)
    places = {"dino/vit": vit, "clip/vit": vit, "clip/clip": CLIPConfig(projection=12, **sizes)}
    for place, config in places.items():
        rng = np.random.default_rng(0)
        save_network(folder / "encoders" / place, config, random_params(rng, abstract_params(config)[0]))


def random_params(rng: np.random.Generator, shapes: Any) -> Any:
    """Arrays of small noise in these shapes."""
    import jax

    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32) / 10, shapes)


def _trained(folder: Path, run: Run) -> None:
    """A run of one step, and what it needs to go on."""
    for make in (_pairs, _recipe):
        make(folder, run)
    run("uno_jax.train", "--config", "recipe.py", "--workdir", "trained", cwd=folder)


def _encoded(folder: Path, run: Run) -> None:
    for make in (_pairs, _recipe):
        make(folder, run)
    run("uno_jax.encodings", "--config", "recipe.py", "--out", "encoded", cwd=folder)


def _packed(folder: Path, run: Run) -> None:
    _pairs(folder, run)
    run("uno_jax.data", "pack", "pairs.json", "--out", "packed", cwd=folder)


def _synthesis(folder: Path, run: Run) -> None:
    """A run of the first stages, of two groups."""
    words = ("--run", "synthesis", "--taxonomy.path", "groups.json", "--diptychs.per-subject", "1")
    write_json(folder / "groups.json", {"toys": ["ball"], "animals": ["dog"]})
    run("tools.synthesize_data", "taxonomy", *words, "--config", "small", cwd=folder)
    for stage in ("subjects", "scenes", "diptychs"):
        run("tools.synthesize_data", stage, "--run", "synthesis", cwd=folder)
    rows = (folder / "synthesis/manifest/diptychs.jsonl").read_text().splitlines()
    write_json(folder / "marks.json", {json.loads(row)["id"]: "keep" for row in rows})


def _imported(folder: Path, run: Run) -> None:
    _pairs(folder, run)
    words = ("import", "--run", "imported", "--config", "small", "--source", "pairs.json")
    run("tools.synthesize_data", *words, cwd=folder)


PARTS: dict[str, Callable[[Path, Run], None]] = {
    "pairs": _pairs,
    "recipe": _recipe,
    "ablation": _ablation,
    "bank": _bank,
    "drawn": _drawn,
    "dreambench": _dreambench,
    "encoders": _encoders,
    "evaluated": _evaluated,
    "finished": _finished,
    "model": _model,
    "sources": _sources,
    "scone": _scone,
    "bagel": _bagel,
    "turns": _turns,
    "scorer": _scorer,
    "trained": _trained,
    "encoded": _encoded,
    "packed": _packed,
    "synthesis": _synthesis,
    "imported": _imported,
}


def make_given(folder: Path, names: Iterable[str], run: Run) -> None:
    """Makes the named parts in folders of their names, those that are there kept."""
    for name in dict.fromkeys(names):
        if (folder / name).exists():
            continue
        partial = folder / f".{name}.{os.getpid()}"
        partial.mkdir(parents=True)
        PARTS[name](partial, run)
        partial.rename(folder / name)
