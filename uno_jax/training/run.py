"""Training, top to bottom: recipe -> mesh -> networks -> state -> restore -> steps -> what the run leaves
behind.

One file is one run: `python -m uno_jax.train --config configs/small_stage1.py`. Its working directory holds
checkpoints/, metrics.jsonl, tensorboard/, samples/ and, at the end, lora/ with dit_lora.safetensors (the same
in UNO's naming), or model/ (every network, when more than a LoRA was trained).
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from uno_jax.data import each_picture, make_dataset, read_encodings, read_records
from uno_jax.families.uno.lora import count
from uno_jax.families.uno.types import Batch, TrainState
from uno_jax.networks.config import ModelConfig
from uno_jax.networks.registry import Params, apply
from uno_jax.networks.vae import Autoencoder
from uno_jax.sharding.rules import batch_share, is_first_process, join_processes, on_host, place_batch
from uno_jax.support.command_line import errors_told, take_plan
from uno_jax.support.compile_cache import use_compile_cache
from uno_jax.training.checkpoints import carry_on, has_checkpoint, open_checkpoints, restore
from uno_jax.training.config import RecipeError, TrainConfig, parse, recipe_text
from uno_jax.training.config_check import check
from uno_jax.training.disk_full import full_disk_told
from uno_jax.training.loop import loop, stop_signal
from uno_jax.training.plan import plan_training
from uno_jax.training.previews import read_samples
from uno_jax.training.state import join, load_params, make_run_mesh, make_state, model_config
from uno_jax.training.step import make_step
from uno_jax.weights.checkpoint import NETWORKS, LoraInfo, copy_network, save_lora, save_network
from uno_jax.weights.lora_formats import save_tensors

STATISTICS_BATCHES = 8


def run(config: TrainConfig, only_export: bool = False) -> TrainState:
    """Trains to the last step, continuing from the newest checkpoint of the working directory; or exports
    what that checkpoint holds. Raises RecipeError when there is none to export.
    """
    check(config)
    if only_export and not has_checkpoint(config):
        raise RecipeError(f"nothing to export: {config.workdir} has no checkpoint")
    join_processes(config.processes.coordinator, config.processes.count, config.processes.index)
    cached = config.data.encodings
    records = read_encodings(cached, config.data.sources) if cached else read_records(config.data)
    if config.objective == "autoencoder":
        records = each_picture(records)
    mesh = make_run_mesh(config)
    model = model_config(config)
    samples = read_samples(config, model)
    batches = make_dataset(
        records, config.data, config.batch_size, model.t5.length, config.seed, *batch_share(mesh)
    )
    params = load_params(config, model, mesh)
    optimizer, state, frozen = make_state(config, params, mesh)
    del params
    if config.init_run:
        state = carry_on(config.init_run, state)
    step = make_step(config, model, optimizer, state)
    sizes = f"{count(state.trainable):,} trained and {count(frozen):,} frozen parameters"
    tqdm.write(f"{sizes}, {len(records)} records")
    with full_disk_told(Path(config.workdir)):
        with jax.set_mesh(mesh), open_checkpoints(config) as checkpoints, stop_signal() as stopping:
            state = restore(checkpoints, config, state, batches)
            if not only_export:
                around = batches, checkpoints, samples, stopping
                state = loop(config, model, mesh, step, state, frozen, *around)
        if only_export or int(state.step) == config.steps:
            export(config, model, join(frozen, state.ema or state.trainable), batches, mesh)
    return state


def export(
    config: TrainConfig, model: ModelConfig, params: dict[str, Params], batches: Iterator[Batch], mesh: Mesh
) -> None:
    """Writes lora/ and dit_lora.safetensors (UNO's naming) when one was trained, and model/ with every
    network when anything else was.
    """
    workdir = Path(config.workdir)
    if config.objective == "autoencoder":
        model = standardised(model, params["vae"], batches, mesh)
    if "lora" in params:
        info = LoraInfo(model.mmdit, config.lora, config.unope)
        save_lora(workdir / "lora", info, params["lora"], overwrite=True)
        lora = on_host(params["lora"])
        if is_first_process():
            save_tensors(workdir / "dit_lora.safetensors", *info, lora, overwrite=True)
    if any(config.trains(kind) for kind in NETWORKS):
        for kind in NETWORKS:  # in one order, since all processes wait for each other at each
            if kind in params:
                save_network(workdir / "model" / kind, getattr(model, kind), params[kind], overwrite=True)
            elif config.data.encodings:  # an encoder that was not loaded, since its encodings were
                copy_network(config.weights_dir / kind, workdir / "model" / kind)


def standardised(model: ModelConfig, vae: Params, batches: Iterator[Batch], mesh: Mesh) -> ModelConfig:
    """The model with the autoencoder's scale and shift set so that latents have mean 0 and deviation 1."""
    encoder = jax.jit(lambda image: apply(model.vae, {"params": vae}, image, method=Autoencoder.encode))
    moments = [on_host(encoder(place_batch(mesh, next(batches).target))) for _ in range(STATISTICS_BATCHES)]
    values = np.concatenate([np.split(part, 2, axis=-1)[0].ravel() for part in moments])
    vae_config = dataclasses.replace(model.vae, scale=float(1 / values.std()), shift=float(values.mean()))
    return dataclasses.replace(model, vae=vae_config)


def main(argv: Sequence[str] | None = None) -> None:
    with errors_told(ValueError, OSError):
        where, rest = take_plan(argv)
        if where is not None:
            return plan_training(where, rest)
        config = parse([argument for argument in rest if argument not in ("--print-config", "--export")])
        if "--print-config" in rest:
            return print(recipe_text(config))
        use_compile_cache()
        run(config, only_export="--export" in rest)
