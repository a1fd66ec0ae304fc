"""A program for four simulated devices: the velocity and a LoRA's gradient with heads spread over them, and
T5 with its weights.

python -m tests.networks.four_devices OUT.npz
"""

import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from tests.tiny_model import random_params
from uno_jax.costs.program import abstract, placed
from uno_jax.families.uno.config import PRESETS, LoraConfig
from uno_jax.families.uno.lora import abstract_lora, init_lora
from uno_jax.networks.mmdit import MMDiT, MMDiTInputs
from uno_jax.networks.registry import abstract_params, apply, arrange, cut_trained
from uno_jax.sharding.rules import BATCH, make_mesh, tree_shardings

CONFIG = replace(PRESETS["tiny"].mmdit, num_heads=4, axes_dim=(4, 6, 6), depth=1, depth_single_blocks=1)
LORA = LoraConfig(rank=4)


def inputs() -> MMDiTInputs:
    draw = np.random.default_rng(0).standard_normal
    shapes = ((2, 8, CONFIG.in_channels), (2, 8, CONFIG.context_in_dim), (2, CONFIG.vec_in_dim))
    img, txt, vec = (jnp.asarray(draw(shape), jnp.float32) for shape in shapes)
    return MMDiTInputs(img, txt, vec, jnp.array([0.3, 0.8]), np.ones((16, 3)), None, jnp.full(2, 4.0))


def velocity(params, lora, given):
    return MMDiT(CONFIG).apply({"params": params, "lora": lora}, given)


def gradient(lora, params, given):
    def loss(lora):
        return jnp.mean(velocity(params, cut_trained({"lora": lora})["lora"], given) ** 2)

    return jax.grad(loss)(lora)


def results(tensor: int, platform: str) -> dict[str, np.ndarray]:
    """The velocity, the LoRA's gradient, and the numbers of collective-permutes in the programs."""
    mesh = make_mesh(fsdp=1, tensor=tensor, devices=jax.devices()[:tensor])
    shapes, axes = abstract_params(CONFIG)
    params = jax.device_put(random_params(CONFIG, 0), tree_shardings(mesh, axes, shapes))
    params = arrange("mmdit", params, platform)
    lora = jax.tree.map(lambda leaf: leaf + 0.05, init_lora(jax.random.key(1), CONFIG, LORA))
    lora = jax.device_put(lora, tree_shardings(mesh, *abstract_lora(CONFIG, LORA)[::-1]))
    with jax.set_mesh(mesh):
        forward = jax.jit(velocity).lower(params, {}, inputs()).compile()
        grads = jax.jit(gradient)(lora, params, inputs())
    found = {"velocity": forward(params, {}, inputs())} | {
        jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(grads)[0]
    }
    kernel = params["final_layer"]["modulation"]["lin"]["kernel"]
    moved = forward.as_text().count(" collective-permute")
    held = np.prod(kernel.sharding.shard_shape(kernel.shape)) / kernel.size
    return {name: np.asarray(leaf) for name, leaf in found.items()} | {"moved": moved, "held": held}


def sums_of_t5() -> int:
    """The number of sums over devices in T5 with weights and samples spread over four."""
    config, mesh = PRESETS["tiny"].t5, make_mesh(fsdp=4, devices=jax.devices()[:4])
    shapes, axes = abstract_params(config)
    params = placed(shapes, tree_shardings(mesh, axes, shapes))
    tokens = abstract((4, config.length), jnp.int32, mesh, *BATCH)
    with jax.set_mesh(mesh):
        lowered = jax.jit(lambda params, tokens: apply(config, {"params": params}, tokens)).lower(
            params, tokens
        )
    return lowered.compile().as_text().count(" all-reduce")


if __name__ == "__main__":
    cases = {"alone": (1, "cpu"), "stacked": (4, "cpu"), "separate": (4, "gpu")}
    np.savez(
        sys.argv[1],
        sums_of_t5=sums_of_t5(),
        **{f"{case} {name}": x for case, how in cases.items() for name, x in results(*how).items()},
    )
