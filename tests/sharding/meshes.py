"""A program for eight simulated devices: trains the tiny LoRA on each given mesh and saves the results.

python -m tests.sharding.meshes WEIGHTS OUT.npz 'data,fsdp,tensor,sequence' …
"""

import sys

import jax
import numpy as np

from tests.tiny_model import TINY
from uno_jax.data.config import DataConfig
from uno_jax.families.uno.config import LoraConfig
from uno_jax.families.uno.types import Batch
from uno_jax.sharding.processes import place_batch
from uno_jax.training.config import MeshConfig, OptimConfig, TrainConfig
from uno_jax.training.state import load_params, make_run_mesh, make_state, model_config
from uno_jax.training.step import make_step

STEPS = 3


def batch(number: int, size: int = 8) -> Batch:
    """A batch with cached encodings except T5's, so that only T5 is compiled for every mesh."""
    rng = np.random.default_rng(number)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal((size, *shape), np.float32)

    moments = 2 * TINY.vae.latent_channels
    tokens = rng.integers(1, 1000, (size, TINY.t5.length), np.int32)
    refs = (normal(4, 4, moments), normal(4, 4, moments))
    return Batch(normal(8, 8, moments), refs, tokens, normal(TINY.clip.hidden_size))


def train(weights: str, sizes: list[int]) -> dict[str, np.ndarray]:
    """Losses, the LoRA and its running average after a few steps; and the share of T5 on one device."""
    config = TrainConfig(
        preset="tiny",
        weights=weights,
        lora=LoraConfig(rank=8),
        data=DataConfig(resolution=64, ref_resolution=32),
        optim=OptimConfig(learning_rate=1e-3, ema_decay=0.9),
        mesh=MeshConfig(*sizes),
        batch_size=8,
        dtype="float32",
        remat="none",
    )
    mesh = make_run_mesh(config, jax.devices()[: np.prod(sizes)])
    model = model_config(config)
    optimizer, state, frozen = make_state(config, load_params(config, model, mesh), mesh)
    step = make_step(config, model, optimizer, state)
    t5 = frozen["t5"]["embedding"]
    losses = []
    with jax.set_mesh(mesh):
        for number in range(STEPS):
            state, metrics = step(state, frozen, place_batch(mesh, batch(number)), jax.random.key(1))
            losses.append(float(metrics["loss"]))
    trees = {"lora": state.trainable["lora"], "ema": state.ema["lora"]}
    leaves = jax.tree_util.tree_flatten_with_path(trees)[0]
    arrays = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    held = np.prod(t5.sharding.shard_shape(t5.shape)) / t5.size
    return {"loss": np.array(losses), "t5_share": np.array(held), **arrays}


if __name__ == "__main__":
    weights, out, *meshes = sys.argv[1:]
    results = {mesh: train(weights, [int(size) for size in mesh.split(",")]) for mesh in meshes}
    np.savez(out, **{f"{mesh} {name}": x for mesh, arrays in results.items() for name, x in arrays.items()})
