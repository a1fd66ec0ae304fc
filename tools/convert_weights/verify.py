"""Recomputes what the reference implementation recorded, from its own files converted by this tool.

A golden folder holds config.json, flux_base.safetensors, dit_lora.safetensors, ae.safetensors and golden.npz;
tests/golden/README.md describes its keys. All runs through the functions that sampling and training use.
"""

import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from uno_jax import flow, tokens
from uno_jax.checkpoint import restore_network
from uno_jax.config import LoraConfig, UnoPE
from uno_jax.denoise import denoise, velocity
from uno_jax.lora_formats import load_tensors, to_tensors
from uno_jax.losses import flow_loss
from uno_jax.models import Params, apply
from uno_jax.models.layers import timestep_embedding
from uno_jax.models.mmdit import MMDiT
from uno_jax.models.vae import Autoencoder, posterior_mean
from uno_jax.optim import make_optimizer
from uno_jax.recipe import OptimConfig
from uno_jax.train import train_step
from uno_jax.types import Conditioning, TrainState

from . import flux, vae
from .convert import convert, plan
from .mapping import ConversionError
from .source import open_source

LIMIT = 1e-4
INPUTS = re.compile(
    r"ae\.image|ae\.z|t|txt|vec|img_latent|ref_latent\.\d+|timesteps|guidance"
    r"|traj\.(noise|ref\.\d+|schedule)|train\.(x1|x0|t_index)"
)
SAMPLING_GUIDANCE, TRAINING_GUIDANCE = 4.0, 1.0
TRAINING_RESOLUTION, TRAINING_REFS = 512, 2
Tensors = dict[str, np.ndarray]


class Result(NamedTuple):
    """One recorded array: the largest absolute error, and that over the array's largest value."""

    key: str
    error: float
    relative: float


@dataclass(frozen=True, eq=False)
class Golden:
    """A folder's arrays and networks, and what takes a whole run to compute."""

    arrays: dict[str, np.ndarray]
    mmdit: Any
    base: Params
    lora_config: LoraConfig
    lora: Params
    autoencoder: Any
    autoencoder_params: Params

    def latents(self, stem: str, count: int | None = None) -> tuple[jax.Array, ...]:
        """stem.0, stem.1, … up to `count`, channels last."""
        names = [key for key in self.arrays if re.fullmatch(rf"{re.escape(stem)}\.\d+", key)]
        names.sort(key=lambda name: int(name.rsplit(".", 1)[1]))
        return tuple(map(channels_last, (self.arrays[name] for name in names[:count])))

    def vae(self, method: Callable, x: jax.Array) -> jax.Array:
        variables = {"params": self.autoencoder_params}
        return jax.jit(lambda v, x: apply(self.autoencoder, v, x, method=method))(variables, x)

    @cached_property
    def trajectory(self) -> jax.Array:
        """The tokens after denoising traj.noise with the references traj.ref.*."""
        conditioning = Conditioning(self.arrays["txt"][:1], self.arrays["vec"][:1], self.latents("traj.ref"))
        noise, schedule = channels_last(self.arrays["traj.noise"]), self.arrays["traj.schedule"]

        @jax.jit
        def run(variables: Any) -> jax.Array:
            return denoise(self.mmdit, variables, noise, conditioning, schedule, SAMPLING_GUIDANCE)

        return run({"params": self.base, "lora": self.lora})

    @cached_property
    def training(self) -> dict[str, np.ndarray | Tensors]:
        """loss and grad_norm of every step, grad0 of the first, and the LoRA after all, on train.*."""
        arrays = self.arrays
        net, times = MMDiT(self.mmdit), flow.training_schedule(TRAINING_RESOLUTION)
        conditioning = Conditioning(arrays["txt"], arrays["vec"], self.latents("ref_latent", TRAINING_REFS))

        def loss(params: dict[str, Params], batch: Any, key: jax.Array) -> jax.Array:
            variables = {"params": params["mmdit"], "lora": params["lora"]}
            return flow_loss(net, variables, *batch, conditioning, TRAINING_GUIDANCE, UnoPE())

        steps = len(arrays["train.x1"])
        optimizer = optax.chain(_recorder(), make_optimizer(OptimConfig(learning_rate=1e-3), steps))
        trainable = {"lora": jax.tree.map(jnp.asarray, self.lora)}
        state = TrainState(jnp.zeros((), jnp.int32), trainable, optimizer.init(trainable))
        step = jax.jit(lambda *inputs: train_step(loss, optimizer, *inputs))
        metrics, first = [], None
        for x1, x0, t_index in zip(
            *(arrays[f"train.{name}"] for name in ("x1", "x0", "t_index")), strict=True
        ):
            batch = (channels_last(x1), channels_last(x0), jnp.asarray(times[t_index]))
            state, told = step(state, {"mmdit": self.base}, batch, jax.random.key(0))
            metrics.append(told)
            first = state.opt_state[0]["lora"] if first is None else first
        return {
            **{name: np.array([told[name] for told in metrics]) for name in ("loss", "grad_norm")},
            "grad0": to_tensors(self.mmdit, self.lora_config, first or {}),
            "lora_after5": to_tensors(self.mmdit, self.lora_config, state.trainable["lora"]),
        }


def _recorder() -> optax.GradientTransformation:
    """Keeps the last gradients as its state, so that a step's are seen without computing them twice."""
    return optax.GradientTransformation(
        lambda params: params, lambda grads, state, params=None: (grads, grads)
    )


def channels_last(array: np.ndarray) -> jax.Array:
    return jnp.moveaxis(jnp.asarray(array), 1, -1)


def channels_first(array: jax.Array) -> np.ndarray:
    return np.moveaxis(np.asarray(array), -1, 1)


def load(folder: Path) -> Golden:
    """Converts a golden folder's networks as any user would, and restores them.

    Raises FileNotFoundError for a missing file, CheckpointError for one that does not fit.
    """
    try:
        with np.load(folder / "golden.npz", allow_pickle=False) as file:
            arrays = dict(file)
    except (ValueError, zipfile.BadZipFile, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(f"{folder} is no golden folder: it has no golden.npz") from None
        raise ConversionError(f"{folder / 'golden.npz'} cannot be read: {error}") from None
    with tempfile.TemporaryDirectory() as model:
        for table, name in ((flux.MODEL, "flux_base"), (vae.MODEL, "ae")):
            convert(plan(table, open_source(folder / f"{name}.safetensors")), Path(model))
        mmdit, base = restore_network(Path(model) / "mmdit")
        autoencoder, autoencoder_params = restore_network(Path(model) / "vae")
    lora_config, _, lora = load_tensors(folder / "dit_lora.safetensors", mmdit)
    return Golden(arrays, mmdit, base, lora_config, lora, autoencoder, autoencoder_params)


def moments(golden: Golden) -> np.ndarray:
    return channels_first(golden.vae(Autoencoder.encode, channels_last(golden.arrays["ae.image"])))


def latent_mean(golden: Golden) -> np.ndarray:
    encoded = golden.vae(Autoencoder.encode, channels_last(golden.arrays["ae.image"]))
    return channels_first(posterior_mean(golden.autoencoder, encoded))


def decoded(golden: Golden) -> np.ndarray:
    return channels_first(golden.vae(Autoencoder.decode, channels_last(golden.arrays["ae.z"])))


def embedding(golden: Golden) -> np.ndarray:
    return np.asarray(jax.jit(timestep_embedding)(golden.arrays["t"]))


def infer_schedule(golden: Golden, width: str, height: str, steps: str) -> np.ndarray:
    return flow.sampling_schedule(int(steps), int(width), int(height))


def train_schedule(golden: Golden, resolution: str) -> np.ndarray:
    return flow.training_schedule(int(resolution))


def token_size(latent: jax.Array) -> tokens.TokenSize:
    return latent.shape[1] // tokens.PATCH, latent.shape[2] // tokens.PATCH


def ids(golden: Golden, refs: str, variant: Any) -> np.ndarray:
    target = token_size(channels_last(golden.arrays["img_latent"]))
    sizes = [token_size(latent) for latent in golden.latents("ref_latent", int(refs))]
    return tokens.position_ids(golden.arrays["txt"].shape[1], target, sizes, UnoPE(variant))


def out(golden: Golden, refs: str, variant: Any) -> np.ndarray:
    arrays, latent = golden.arrays, channels_last(golden.arrays["img_latent"])
    conditioning = Conditioning(arrays["txt"], arrays["vec"], golden.latents("ref_latent", int(refs)))
    guidance = arrays["guidance"] if golden.mmdit.guidance_embed else None
    inputs = (tokens.pack(latent), token_size(latent), conditioning, arrays["timesteps"], guidance)

    @jax.jit
    def run(variables: Any) -> jax.Array:
        return velocity(MMDiT(golden.mmdit), variables, *inputs, UnoPE(variant))

    return np.asarray(run({"params": golden.base, "lora": golden.lora}))


def trajectory(golden: Golden, name: str) -> np.ndarray:
    if name == "latent_tokens":
        return np.asarray(golden.trajectory)
    size = token_size(channels_last(golden.arrays["traj.noise"]))
    latent = tokens.unpack(golden.trajectory, size)
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


def verify(folder: Path) -> Iterator[Result]:
    """Compares every recorded output, one after another.

    Raises CheckpointError for a key that is neither an input nor a known output, or that lacks an input, and
    as `load`.
    """
    golden = load(Path(folder))
    jobs, unknown = [], []
    for key in golden.arrays:
        found = [(make, match) for pattern, make in OUTPUTS.items() if (match := re.fullmatch(pattern, key))]
        jobs += [(key, make, match.groups()) for make, match in found]
        unknown += [] if found or INPUTS.fullmatch(key) else [key]
    if unknown:
        raise ConversionError(
            f"golden.npz holds arrays that this program does not know: {', '.join(unknown)}"
        )
    for key, make, arguments in jobs:
        try:
            computed = make(golden, *arguments)
        except KeyError as error:
            raise ConversionError(f"{key} cannot be computed: the folder lacks {error.args[0]}") from None
        yield compare(key, golden.arrays[key], computed)


def compare(key: str, recorded: np.ndarray, computed: np.ndarray) -> Result:
    """Errors of one array; infinite where the shapes differ or a number is not finite."""
    recorded, computed = np.asarray(recorded, np.float64), np.asarray(computed, np.float64)
    if recorded.shape != computed.shape or not np.isfinite(computed).all():
        return Result(key, np.inf, np.inf)
    error, largest = np.abs(recorded - computed).max(initial=0), np.abs(recorded).max(initial=0)
    return Result(key, float(error), float(error / largest if largest else error))
