"""Recomputes what UNO's reference recorded, from its own files converted by this tool.

A golden folder holds config.json, flux_base.safetensors, dit_lora.safetensors, ae.safetensors and
golden.npz; tests/golden/README.md describes its keys. Everything is computed by the functions that sampling
and training use.
"""

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from uno_jax.families import flow, latents
from uno_jax.families.model import Model as FamilyModel
from uno_jax.families.uno.config import LoraConfig, ModelConfig, UnoPE
from uno_jax.families.uno.denoising import denoise
from uno_jax.families.uno.lora import LoraInfo
from uno_jax.families.uno.lora_names import to_tensors
from uno_jax.families.uno.objective import Noised, flow_loss
from uno_jax.families.uno.positions import position_ids
from uno_jax.families.uno.types import Conditioning
from uno_jax.families.uno.velocity import velocity
from uno_jax.networks.clip import CLIPConfig
from uno_jax.networks.layers import timestep_embedding
from uno_jax.networks.mmdit import MMDiT
from uno_jax.networks.mmdit_config import MMDiTConfig
from uno_jax.networks.registry import apply
from uno_jax.networks.t5 import T5Config
from uno_jax.networks.vae import Autoencoder, VAEConfig, posterior_mean
from uno_jax.support.trees import Params
from uno_jax.training.config import OptimConfig
from uno_jax.training.optimizer import make_optimizer
from uno_jax.weights.checkpoint import restore_network
from uno_jax.weights.lora_files import load_tensors

from ..convert import convert, plan
from ..mapping import Model
from ..source import open_source
from ..tables import flux, vae
from .recording import Kind, Tensors, read_arrays

INPUTS = re.compile(
    r"ae\.image|ae\.z|t|txt|vec|img_latent|ref_latent\.\d+|timesteps|guidance"
    r"|traj\.(noise|ref\.\d+|schedule)|train\.(x1|x0|t_index)"
)
SAMPLING_GUIDANCE, TRAINING_GUIDANCE = 4.0, 1.0
TRAINING_RESOLUTION, TRAINING_REFS = 512, 2


@dataclass(frozen=True, eq=False)
class Golden:
    """A folder's arrays; its networks and the results of whole runs are computed when first used."""

    folder: Path
    arrays: Tensors

    @cached_property
    def transformer(self) -> tuple[MMDiTConfig, Params]:
        return self._network(flux.MODEL, "flux_base")

    @cached_property
    def autoencoder(self) -> tuple[VAEConfig, Params]:
        return self._network(vae.MODEL, "ae")

    def _network(self, model: Model, name: str) -> tuple[Any, Params]:
        """Converts a network as users do, and restores it."""
        with tempfile.TemporaryDirectory() as place:
            planned = plan(model, open_source(self.folder / f"{name}.safetensors"))
            return restore_network(convert(planned, Path(place)))

    @cached_property
    def lora(self) -> tuple[LoraConfig, Params]:
        config, _, params = load_tensors(self.folder / "dit_lora.safetensors", self.transformer[0])
        return config, params

    @property
    def variables(self) -> dict[str, Params]:
        return {"params": self.transformer[1], "lora": self.lora[1]}

    def array(self, name: str) -> jax.Array:
        return jnp.asarray(self.arrays[name])

    def latents(self, stem: str, count: int | None = None) -> tuple[jax.Array, ...]:
        """Returns stem.0, stem.1, … channels last: `count` of them, or all."""
        names = [f"{stem}.{index}" for index in range(len(self.arrays) if count is None else count)]
        return tuple(channels_last(self.arrays[name]) for name in names if count or name in self.arrays)

    def vae(self, method: Callable, x: jax.Array) -> jax.Array:
        config, params = self.autoencoder
        return jax.jit(lambda v, x: apply(config, v, x, method=method))({"params": params}, x)

    @cached_property
    def moments(self) -> jax.Array:
        """The encoder's output for ae.image."""
        return self.vae(Autoencoder.encode, channels_last(self.arrays["ae.image"]))

    @cached_property
    def trajectory(self) -> jax.Array:
        """The tokens after denoising traj.noise with the references traj.ref.*."""
        refs, strength = self.latents("traj.ref"), jnp.full(1, SAMPLING_GUIDANCE)
        conditioning = Conditioning(self.array("txt")[:1], self.array("vec")[:1], refs, strength)
        noise, schedule = channels_last(self.arrays["traj.noise"]), self.arrays["traj.schedule"]
        params = {"mmdit": self.transformer[1], "lora": self.lora[1]}
        model = FamilyModel(ModelConfig(mmdit=self.transformer[0], **self.encoders), params)
        return jax.jit(denoise)(model, noise, conditioning, schedule)

    @property
    def encoders(self) -> dict[str, Any]:
        """Configs of the networks that the folder does not hold, as the transformer needs them."""
        mmdit = self.transformer[0]
        return {
            "vae": VAEConfig(latent_channels=mmdit.in_channels // latents.PATCH**2),
            "t5": T5Config(d_model=mmdit.context_in_dim),
            "clip": CLIPConfig(hidden_size=mmdit.vec_in_dim),
        }

    @cached_property
    def training(self) -> dict[str, np.ndarray | Tensors]:
        """loss and grad_norm of every step on train.*, grad0 of the first, and the LoRA after the last."""
        arrays = self.arrays
        net, times = MMDiT(self.transformer[0]), flow.training_schedule(TRAINING_RESOLUTION)
        refs = self.latents("ref_latent", TRAINING_REFS)
        strength = jnp.full(len(arrays["txt"]), TRAINING_GUIDANCE)
        conditioning = Conditioning(self.array("txt"), self.array("vec"), refs, strength)
        optimizer = make_optimizer(OptimConfig(learning_rate=1e-3), len(arrays["train.x1"]))

        @jax.jit
        def step(lora: Params, opt_state: Any, base: Params, x1: Any, x0: Any, t: Any) -> Any:
            def loss(lora: Params) -> jax.Array:
                variables = {"params": base, "lora": lora}
                return flow_loss(net, variables, Noised(x1, x0, t), conditioning)

            value, grads = jax.value_and_grad(loss)(lora)
            updates, opt_state = optimizer.update(grads, opt_state, lora)
            return optax.apply_updates(lora, updates), opt_state, value, grads

        (mmdit, base), (config, lora) = self.transformer, self.lora
        opt_state, info = optimizer.init(lora), LoraInfo(mmdit, config, UnoPE())
        losses, norms = [], []
        first: Tensors = {}
        names = ("train.x1", "train.x0", "train.t_index")
        for x1, x0, t_index in zip(*(arrays[name] for name in names), strict=True):
            batch = channels_last(x1), channels_last(x0), times[t_index]
            lora, opt_state, value, grads = step(lora, opt_state, base, *batch)
            losses.append(value)
            norms.append(optax.tree.norm(grads))
            first = first or to_tensors(info, grads)
        after = to_tensors(info, lora)
        return {"loss": np.array(losses), "grad_norm": np.array(norms), "grad0": first, "lora_after5": after}


def channels_last(array: np.ndarray) -> jax.Array:
    return jnp.moveaxis(jnp.asarray(array), 1, -1)


def channels_first(array: jax.Array) -> np.ndarray:
    return np.moveaxis(np.asarray(array), -1, 1)


def load_golden(folder: Path) -> Golden:
    """Reads golden.npz.

    Raises FileNotFoundError, or ConversionError when it cannot be read.
    """
    return Golden(folder, read_arrays(folder))


def moments(golden: Golden) -> np.ndarray:
    return channels_first(golden.moments)


def latent_mean(golden: Golden) -> np.ndarray:
    return channels_first(posterior_mean(golden.autoencoder[0], golden.moments))


def decoded(golden: Golden) -> np.ndarray:
    return channels_first(golden.vae(Autoencoder.decode, channels_last(golden.arrays["ae.z"])))


def embedding(golden: Golden) -> np.ndarray:
    return np.asarray(jax.jit(timestep_embedding)(golden.arrays["t"]))


def infer_schedule(golden: Golden, width: str, height: str, steps: str) -> np.ndarray:
    return flow.sampling_schedule(int(steps), int(width), int(height))


def train_schedule(golden: Golden, resolution: str) -> np.ndarray:
    return flow.training_schedule(int(resolution))


def ids(golden: Golden, refs: str, variant: Any) -> np.ndarray:
    target = latents.token_grid(channels_last(golden.arrays["img_latent"]))
    sizes = [latents.token_grid(latent) for latent in golden.latents("ref_latent", int(refs))]
    return position_ids(golden.arrays["txt"].shape[1], target, sizes, UnoPE(variant))


def out(golden: Golden, refs: str, variant: Any) -> np.ndarray:
    latent = channels_last(golden.arrays["img_latent"])
    refs_shown = golden.latents("ref_latent", int(refs))
    guidance = golden.array("guidance") if golden.transformer[0].guidance_embed else None
    texts = golden.array("txt"), golden.array("vec")
    conditioning = Conditioning(*texts, refs_shown, guidance, UnoPE(variant))
    inputs = latents.pack(latent), latents.token_grid(latent), golden.array("timesteps"), conditioning

    @jax.jit
    def run(variables: Any) -> jax.Array:
        return velocity(MMDiT(golden.transformer[0]), variables, *inputs)

    return np.asarray(run(golden.variables))


def trajectory(golden: Golden, name: str) -> np.ndarray:
    if name == "latent_tokens":
        return np.asarray(golden.trajectory)
    size = latents.token_grid(channels_last(golden.arrays["traj.noise"]))
    latent = latents.unpack(golden.trajectory, size)
    return channels_first(latent if name == "latent" else golden.vae(Autoencoder.decode, latent))


def training(golden: Golden, name: str) -> Any:
    return golden.training[name]


def trained(golden: Golden, name: str, key: str) -> np.ndarray:
    return golden.training[name][key]


OUTPUTS: dict[str, Callable[..., np.ndarray]] = {
    r"ae\.moments": moments,
    r"ae\.latent_mean": latent_mean,
    r"ae\.decoded": decoded,
    r"t\.embedding": embedding,
    r"schedule\.infer\.(\d+)x(\d+)\.(\d+)": infer_schedule,
    r"schedule\.train\.(\d+)": train_schedule,
    r"ids\.ref(\d+)\.([dhwo])": ids,
    r"out\.ref(\d+)\.([dhwo])": out,
    r"traj\.(latent_tokens|latent|image)": trajectory,
    r"train\.(loss|grad_norm)": training,
    r"train\.(grad0|lora_after5)\.(.+)": trained,
}


UNO = Kind(load_golden, OUTPUTS, INPUTS)
