"""Training, top to bottom: recipe -> mesh -> networks -> state -> restore -> steps -> export.

A working directory holds checkpoints/, metrics.jsonl, tensorboard/, samples/ and, at the end, lora/ with
dit_lora.safetensors (the same in UNO's naming and bfloat16), or model/ (every network, when more than a LoRA
was trained).
"""

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from uno_jax.data.batches import Batches, make_dataset
from uno_jax.data.cached_encodings import read_encodings
from uno_jax.data.entries import DataError
from uno_jax.data.records import check_masks, each_picture, read_records
from uno_jax.data.sizes import Sized, keep_sizes, with_sizes
from uno_jax.families.registry import family_of
from uno_jax.networks.registry import apply
from uno_jax.networks.vae import Autoencoder
from uno_jax.sharding.processes import (
    batch_share,
    first_process_first,
    is_first_process,
    join_processes,
    locked_by_first,
    on_host,
    place_batch,
    same_everywhere,
)
from uno_jax.support.atomic import check_output_folder
from uno_jax.support.errors import RecipeError
from uno_jax.support.folder_lock import locked
from uno_jax.support.trees import Params, count, join
from uno_jax.support.words import counted
from uno_jax.training.checkpoints import last_step, open_checkpoints
from uno_jax.training.config import TrainConfig
from uno_jax.training.config_check import check_recipe
from uno_jax.training.disk_full import report_full_disk
from uno_jax.training.loop import Run, take_steps
from uno_jax.training.previews import read_samples
from uno_jax.training.restoring import as_begun, carry_on, restore_checkpoint
from uno_jax.training.start_check import check_start
from uno_jax.training.state import TrainState, load_params, make_run_mesh, make_state, model_config
from uno_jax.training.step import make_step
from uno_jax.training.stopping import stop_signal
from uno_jax.weights.checkpoint import copy_network, save_lora, save_network
from uno_jax.weights.lora_files import save_tensors

STATISTICS_BATCHES = 8


def train(config: TrainConfig, only_export: bool = False) -> TrainState:
    """Trains to the last step, continuing from the newest checkpoint of the working directory; or only
    exports what that checkpoint holds.

    Raises RecipeError for settings that cannot work, and when there is no checkpoint to export.
    """
    check_recipe(config)
    check_output_folder("workdir", Path(config.workdir))
    done = last_step(config)
    if only_export and done is None:
        raise RecipeError(f"nothing to export: {config.workdir} has no checkpoint")
    if not only_export and done is not None and done > config.steps:
        raise RecipeError(
            f"{config.workdir} is at step {done} already, beyond steps {config.steps}: give more --steps to "
            "train on, or --export to write the weights of that step"
        )
    join_processes(config.processes.coordinator, config.processes.count, config.processes.index)
    with locked_by_first(locked(Path(config.workdir))):
        return _train_locked(config, only_export)


def _train_locked(config: TrainConfig, only_export: bool) -> TrainState:
    config = as_begun(config)
    mesh, model = make_run_mesh(config), model_config(config)
    samples = read_samples(config, model)
    check_start(config, model, only_export)
    sized = read_data(config)
    records = each_picture(sized.records) if config.objective == "autoencoder" else sized.records
    make_batch = partial(family_of(model).need_trainer().make_batch, model)
    batches = make_dataset(
        records, config.data, config.batch_size, make_batch, config.seed, batch_share(mesh)
    )
    optimizer, state, frozen = make_state(config, load_params(config, model, mesh), mesh)
    if config.init_run:
        state = carry_on(config.init_run, state)
    step = make_step(config, model, optimizer, state)
    sizes = f"{count(state.trainable):,} trained and {count(frozen):,} frozen parameters"
    tqdm.write(f"{sizes}, {counted(len(records), 'record')}")
    with report_full_disk(Path(config.workdir)):
        with jax.set_mesh(mesh), open_checkpoints(config) as checkpoints, stop_signal() as stopping:
            state = restore_checkpoint(checkpoints, config, state, batches, only_export)
            finished = int(state.step) == config.steps
            if is_first_process():
                keep_sizes(sized)
            if not only_export:
                run = Run(config, model, mesh, batches, checkpoints, samples, stopping)
                state = take_steps(run, step, state, frozen)
        if only_export or int(state.step) == config.steps:
            params = join(frozen, state.ema or state.trainable)
            places = export_weights(config, model, params, batches, mesh)
            if finished and not only_export:
                tqdm.write(f"{config.workdir} is finished: more --steps than {config.steps} would train on")
            tqdm.write(f"wrote {' and '.join(map(str, places))} (step {int(state.step)})")
    return state


def read_data(config: TrainConfig) -> Sized:
    """The records that a recipe trains from, with their pictures' sizes where it asks for them."""
    cached = config.data.encodings
    records = read_encodings(cached, config.data.lists) if cached else read_records(config.data)
    check_masks(records, config.data)
    if cached or config.data.buckets == "mean":
        return Sized(records, None, Path(config.workdir))
    with first_process_first("sizes"):
        sized = with_sizes(records, Path(config.workdir), config.data.max_bad_share)
    if not same_everywhere(int(sized.records.fingerprint(), 16)):
        raise DataError("the processes read different sizes of pictures; start the run again")
    return sized


def export_weights(
    config: TrainConfig, model: Any, params: dict[str, Params], batches: Batches, mesh: Mesh
) -> list[Path]:
    """Writes lora/ and dit_lora.safetensors (UNO's naming, in bfloat16) when a LoRA was trained, and model/
    with every network when anything else was. Returns what it wrote.
    """
    workdir, family = Path(config.workdir), family_of(model)
    written: list[Path] = []
    if config.objective == "autoencoder":
        model = standardised(model, params["vae"], batches, mesh)
    if "lora" in params:
        info = family.need_lora().info(getattr(model, family.core), config.lora, config.unope)
        save_lora(workdir / "lora", info, params["lora"], overwrite=True, defaults=model.defaults)
        lora = on_host(params["lora"])
        if is_first_process():
            half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), lora)
            save_tensors(workdir / "dit_lora.safetensors", info, half, overwrite=True)
        written += [workdir / "lora", workdir / "dit_lora.safetensors"]
    if any(config.trains(kind) for kind in family.networks):
        for kind in family.networks:  # in this order, since all processes wait for each other at each network
            place = workdir / "model" / kind
            if kind in params:
                part, defaults = getattr(model, kind), model.defaults
                save_network(place, part, params[kind], overwrite=True, defaults=defaults)
            elif config.data.encodings:  # an encoder that was not loaded, its encodings being cached
                copy_network(config.weights_dir / kind, place)
        written.append(workdir / "model")
    return written


def standardised(model: Any, vae: Params, batches: Iterator[Any], mesh: Mesh) -> Any:
    """The model with the autoencoder's scale and shift set so that latents have mean 0 and deviation 1."""
    encoder = jax.jit(lambda image: apply(model.vae, {"params": vae}, image, method=Autoencoder.encode))
    moments = [on_host(encoder(place_batch(mesh, next(batches).target))) for _ in range(STATISTICS_BATCHES)]
    values = np.concatenate([np.split(part, 2, axis=-1)[0].ravel() for part in moments])
    vae_config = dataclasses.replace(model.vae, scale=float(1 / values.std()), shift=float(values.mean()))
    return dataclasses.replace(model, vae=vae_config)
