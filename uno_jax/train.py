"""Training, top to bottom: recipe -> mesh -> networks -> state -> restore -> steps -> what the run leaves
behind.

One file is one run: `python -m uno_jax.train --config configs/demo.py`. Its working directory holds
checkpoints/, metrics.jsonl and, at the end, lora/ (a native LoRA) or model/ (every network, when more than
a LoRA was trained).
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float
from tqdm import tqdm

from uno_jax.checkpoint import NETWORKS, LoraInfo, save_lora, save_network
from uno_jax.command_line import errors_told
from uno_jax.compile_cache import use_compile_cache
from uno_jax.config import ModelConfig
from uno_jax.data import each_picture, make_dataset, read_list
from uno_jax.lora import count
from uno_jax.losses import Loss, make_loss
from uno_jax.models import Params, apply
from uno_jax.models.vae import Autoencoder
from uno_jax.recipe import RecipeError, TrainConfig, check, parse
from uno_jax.sharding import BATCH, make_mesh
from uno_jax.state import join, load_params, make_state, model_config
from uno_jax.types import Batch, TrainState

STATISTICS_BATCHES = 8


def train_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    frozen: dict[str, Params],
    batch: Batch,
    key: jax.Array,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """One step on the trainable arrays only: no gradient of a frozen weight is ever formed."""

    def of_trainable(trainable: Params) -> Float[Array, ""]:
        return loss(join(frozen, trainable), batch, jax.random.fold_in(key, state.step))

    value, grads = jax.value_and_grad(of_trainable)(state.trainable)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.trainable)
    trainable = optax.apply_updates(state.trainable, updates)
    metrics = {"loss": value, "grad_norm": optax.tree.norm(grads)}
    return TrainState(state.step + 1, trainable, opt_state), metrics


def run(config: TrainConfig) -> TrainState:
    """Trains to the last step, continuing from the newest checkpoint of the working directory."""
    check(config)
    workdir = Path(config.workdir).absolute()
    records = read_list(config.data.path)
    if config.objective == "autoencoder":
        records = each_picture(records)
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    if config.batch_size % (share := mesh.shape["data"] * mesh.shape["fsdp"]):
        raise RecipeError(f"batch_size {config.batch_size} does not divide over {share} devices")
    model = model_config(config)
    params = load_params(config, model, mesh)
    optimizer, state, frozen = make_state(config, params)
    del params
    batches = iter(make_dataset(records, config.data, config.batch_size, model.t5.length, config.seed))
    step = jax.jit(partial(train_step, make_loss(config, model), optimizer), donate_argnums=0)
    sizes = f"{count(state.trainable):,} trained and {count(frozen):,} frozen parameters"
    tqdm.write(f"{sizes}, {len(records)} records")
    options = ocp.CheckpointManagerOptions(max_to_keep=config.keep_checkpoints)
    with ocp.CheckpointManager(workdir / "checkpoints", options=options) as checkpoints:
        state = restore(checkpoints, state, batches)
        state = loop(config, mesh, step, state, frozen, batches, checkpoints, workdir)
    export(config, model, join(frozen, state.trainable), batches, workdir)
    return state


def loop(
    config: TrainConfig,
    mesh: Mesh,
    step: Callable[..., tuple[TrainState, dict[str, Array]]],
    state: TrainState,
    frozen: dict[str, Params],
    batches: Iterator[Batch],
    checkpoints: ocp.CheckpointManager,
    workdir: Path,
) -> TrainState:
    key = jax.random.key(config.seed + 1)
    place = NamedSharding(mesh, BATCH)
    first = int(state.step)
    with (
        tqdm(total=config.steps, initial=first, unit="step", dynamic_ncols=True) as bar,
        (workdir / "metrics.jsonl").open("a", buffering=1) as log,
    ):
        for number in range(first + 1, config.steps + 1):
            state, metrics = step(state, frozen, jax.device_put(next(batches), place), key)
            bar.update()
            if number % config.log_every == 0 or number == config.steps:
                values = {name: float(value) for name, value in metrics.items()}
                bar.set_postfix(loss=f"{values['loss']:.4f}")
                log.write(json.dumps({"step": number, **values}) + "\n")
            if number % config.checkpoint_every == 0 or number == config.steps:
                save(checkpoints, number, state, batches)
    return state


def save(checkpoints: ocp.CheckpointManager, number: int, state: TrainState, batches: Any) -> None:
    parts = ocp.args.Composite(
        state=ocp.args.StandardSave(state._asdict()), data=ocp.args.JsonSave(batches.get_state())
    )
    checkpoints.save(number, args=parts)


def restore(checkpoints: ocp.CheckpointManager, state: TrainState, batches: Any) -> TrainState:
    """The newest checkpoint's state, the data iterator put where it was; `state` as it is when there is
    none.
    """
    if checkpoints.latest_step() is None:
        return state
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state._asdict())
    parts = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore())
    restored = checkpoints.restore(checkpoints.latest_step(), args=parts)
    batches.set_state(restored["data"])
    tqdm.write(f"continuing after step {checkpoints.latest_step()}")
    return TrainState(**restored["state"])


def export(
    config: TrainConfig,
    model: ModelConfig,
    params: dict[str, Params],
    batches: Iterator[Batch],
    workdir: Path,
) -> None:
    """Writes lora/ when one was trained, and model/ with every network when anything else was."""
    if config.objective == "autoencoder":
        model = standardised(model, params["vae"], batches)
    if "lora" in params:
        info = LoraInfo(model.mmdit, config.lora, config.unope)
        save_lora(workdir / "lora", info, params["lora"], overwrite=True)
    if any(config.trains(kind) for kind in NETWORKS):
        for kind in params.keys() - {"lora"}:
            save_network(workdir / "model" / kind, getattr(model, kind), params[kind], overwrite=True)


def standardised(model: ModelConfig, vae: Params, batches: Iterator[Batch]) -> ModelConfig:
    """The model with the autoencoder's scale and shift set so that latents have mean 0 and deviation 1."""
    encoder = jax.jit(lambda image: apply(model.vae, {"params": vae}, image, method=Autoencoder.encode))
    moments = [np.asarray(encoder(next(batches).target)) for _ in range(STATISTICS_BATCHES)]
    values = np.concatenate([np.split(part, 2, axis=-1)[0].ravel() for part in moments])
    vae_config = dataclasses.replace(model.vae, scale=float(1 / values.std()), shift=float(values.mean()))
    return dataclasses.replace(model, vae=vae_config)


def main(argv: Sequence[str] | None = None) -> None:
    with errors_told(ValueError, OSError):
        config = parse(argv)
        use_compile_cache()
        run(config)


if __name__ == "__main__":
    main()
