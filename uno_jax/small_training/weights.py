"""The networks between the parts: restored from OUT/model, or new, and written there after each part."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from uno_jax.families.uno.config import ModelConfig, UnoPE
from uno_jax.families.uno.lora import LoraInfo, abstract_lora, init_lora
from uno_jax.networks.registry import abstract_params, apply, init_params
from uno_jax.networks.vae import Autoencoder, VAEConfig
from uno_jax.small_training import samples
from uno_jax.small_training.parts import LORA, Part
from uno_jax.small_training.worlds import Inputs
from uno_jax.support.errors import CheckpointError
from uno_jax.support.trees import Params
from uno_jax.weights.checkpoint import (
    read_config,
    read_lora,
    restore_lora,
    restore_network,
    save_lora,
    save_network,
)

NORMALISED_OVER = 256  # pictures


def check_networks(parts: Sequence[Part], model: ModelConfig, folder: Path) -> None:
    """Checks before anything is trained that each part finds what it needs.

    Raises CheckpointError for a stored network of other sizes, and for a frozen one that is neither stored
    nor trained before.
    """
    trained: set[str] = set()
    for part in parts:
        for kind in part.networks:
            if (folder / kind).is_dir():
                _check_sizes(kind, model, folder / kind)
            elif kind not in trained and not part.trains(kind):
                raise CheckpointError(
                    f"{part.name} needs {kind}, which {folder} does not hold: give the part that trains it "
                    "some minutes"
                )
        trained |= {kind for kind in part.networks if part.trains(kind)}


def _check_sizes(kind: str, model: ModelConfig, directory: Path) -> None:
    stored = read_lora(directory)[:2] if kind == "lora" else read_config(directory, kind)
    wanted = (model.mmdit, LORA) if kind == "lora" else getattr(model, kind)
    if stored != wanted:
        raise CheckpointError(f"{directory} has {stored}, expected {wanted}: choose another --out")


def load_networks(part: Part, model: ModelConfig, folder: Path, seed: int) -> dict[str, Params]:
    """The part's networks in float32: those in `folder`, and new ones where it has none."""
    params: dict[str, Params] = {}
    for number, kind in enumerate(part.networks):
        key = jax.random.fold_in(jax.random.key(seed, impl="rbg"), number)
        if (folder / kind).is_dir():
            restore = restore_lora if kind == "lora" else restore_network
            params[kind] = restore(folder / kind, dtype=jnp.float32)[1]
        elif kind == "lora":
            params[kind] = init_lora(jax.random.key(seed), model.mmdit, LORA)
        else:
            params[kind] = jax.jit(partial(init_params, getattr(model, kind)))(key)
    return params


def abstract_networks(part: Part, model: ModelConfig) -> dict[str, Params]:
    """Their shapes."""
    return {
        kind: abstract_lora(model.mmdit, LORA)[0]
        if kind == "lora"
        else abstract_params(getattr(model, kind))[0]
        for kind in part.networks
    }


def save_networks(params: Mapping[str, Params], model: ModelConfig, folder: Path) -> None:
    """Replaces the networks in `folder`, in bfloat16."""
    for kind, tree in params.items():
        half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tree)
        if kind == "lora":
            info = LoraInfo(model.mmdit, LORA, UnoPE())
            save_lora(folder / kind, info, half, overwrite=True, defaults=model.defaults)
        else:
            defaults = model.defaults if kind == "mmdit" else None
            save_network(folder / kind, getattr(model, kind), half, overwrite=True, defaults=defaults)


def draw_pictures(inputs: Inputs, key: PRNGKeyArray, length: int) -> Float[Array, "b size size 3"]:
    """Pictures to measure an autoencoder's latents on; `length` is T5's."""
    draw = jax.jit(lambda inputs, key: samples.draw_text_images(key, inputs, NORMALISED_OVER, length).target)
    return cast(Array, draw(inputs, key))


def normalise_latents(params: Params, config: VAEConfig, image: Float[Array, "b h w 3"]) -> Params:
    """The same autoencoder with each latent channel scaled to deviation 1 over pictures, as the flow's noise
    has it.

    The factor goes out of the decoder's first kernel into the encoder's last.
    """
    channels = config.latent_channels

    @jax.jit
    def deviations(params: Params, image: Float[Array, "b h w 3"]) -> Float[Array, " z"]:
        moments = apply(config, {"params": params}, image, method=Autoencoder.encode)
        return jnp.std(moments[..., :channels], axis=(0, 1, 2))

    factor = 1 / (config.scale * deviations(params, image))
    last = params["encoder"]["conv_out"]["conv"]
    means = jnp.concatenate([factor, jnp.ones(channels)])
    offset = jnp.concatenate([jnp.zeros(channels), 2 * jnp.log(factor)])
    encoder = params["encoder"] | {
        "conv_out": {"conv": {"kernel": last["kernel"] * means, "bias": last["bias"] * means + offset}}
    }
    first = params["decoder"]["conv_in"]["conv"]
    decoder = params["decoder"] | {
        "conv_in": {"conv": {"kernel": first["kernel"] / factor[:, None], "bias": first["bias"]}}
    }
    return params | {"encoder": encoder, "decoder": decoder}
