"""Training, top to bottom: recipe -> mesh -> networks -> state -> restore -> steps -> what the run leaves
behind.

One file is one run: `python -m uno_jax.train --config configs/demo.py`. Its working directory holds
checkpoints/, metrics.jsonl and, at the end, lora/ (a native LoRA) or model/ (every network, when more than
a LoRA was trained).
"""

import contextlib
import dataclasses
import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TextIO

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding
from tqdm import tqdm

from uno_jax.checkpoint import NETWORKS, LoraInfo, save_lora, save_network
from uno_jax.command_line import errors_told, take_plan
from uno_jax.compile_cache import use_compile_cache
from uno_jax.config import ModelConfig
from uno_jax.data import Batches, each_picture, make_dataset, read_encodings, read_records
from uno_jax.lora import count
from uno_jax.losses import make_loss
from uno_jax.models import Params, apply
from uno_jax.models.vae import Autoencoder
from uno_jax.plan_train import plan_training
from uno_jax.recipe import RecipeError, TrainConfig, check, parse
from uno_jax.resume import carry_on, open_checkpoints, restore, save
from uno_jax.sharding import BATCH, make_mesh
from uno_jax.state import join, load_params, make_state, model_config
from uno_jax.step import Metrics, train_step
from uno_jax.types import Batch, TrainState

STATISTICS_BATCHES = 8


class TrainingError(ValueError):
    """The run cannot go on; its last good checkpoint is whole."""


def run(config: TrainConfig) -> TrainState:
    """Trains to the last step, continuing from the newest checkpoint of the working directory."""
    check(config)
    cached = config.data.encodings
    records = read_encodings(cached) if cached else read_records(config.data)
    if config.objective == "autoencoder":
        records = each_picture(records)
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    if config.batch_size % (share := mesh.shape["data"] * mesh.shape["fsdp"]):
        raise RecipeError(f"batch_size {config.batch_size} does not divide over {share} devices")
    model = model_config(config)
    params = load_params(config, model, mesh)
    optimizer, state, frozen = make_state(config, params, mesh)
    del params
    if config.init_run:
        state = carry_on(config.init_run, state)
    batches = make_dataset(records, config.data, config.batch_size, model.t5.length, config.seed)
    step = jax.jit(
        partial(train_step, make_loss(config, model), optimizer, config.optim.ema_decay, config.accumulate),
        donate_argnums=0,
        out_shardings=(jax.tree.map(lambda leaf: leaf.sharding, state), None),
    )
    sizes = f"{count(state.trainable):,} trained and {count(frozen):,} frozen parameters"
    tqdm.write(f"{sizes}, {len(records)} records")
    with jax.set_mesh(mesh), open_checkpoints(config) as checkpoints, stop_signal() as stopping:
        state = restore(checkpoints, config, state, batches)
        state = loop(config, mesh, step, state, frozen, batches, checkpoints, stopping)
    if int(state.step) == config.steps:
        export(config, model, join(frozen, state.ema or state.trainable), batches)
    return state


@contextlib.contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, which is what a preempted machine gets: save, and leave with code 0."""
    stopping = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGTERM, before)


def loop(
    config: TrainConfig,
    mesh: Mesh,
    step: Callable[..., tuple[TrainState, Metrics]],
    state: TrainState,
    frozen: dict[str, Params],
    batches: Batches,
    checkpoints: ocp.CheckpointManager,
    stopping: threading.Event,
) -> TrainState:
    """All steps from the state's on. The host runs one step ahead of what it has read of the metrics."""
    key = jax.random.key(config.seed + 1)
    place = NamedSharding(mesh, BATCH)
    number = int(state.step)
    bar = tqdm(total=config.steps, initial=number, unit="step", dynamic_ncols=True)
    with bar, (Path(config.workdir) / "metrics.jsonl").open("a", buffering=1) as log:
        pending: Metrics | None = None
        while number < config.steps and not stopping.is_set():
            state, metrics = step(state, frozen, jax.device_put(next(batches), place), key)
            number += 1
            if pending is not None:
                report(config, number - 1, pending, batches.skipped, bar, log)
            pending = metrics
            if number % config.checkpoint_every == 0:
                save(checkpoints, config, number, state, batches)
        if pending is not None:
            report(config, number, pending, batches.skipped, bar, log)
        save(checkpoints, config, number, state, batches)
        checkpoints.wait_until_finished()
    if stopping.is_set():
        tqdm.write(f"stopped by SIGTERM after step {number}, which is saved; the same command continues")
    return state


def report(
    config: TrainConfig, number: int, metrics: Metrics, bad_records: int, bar: tqdm, log: TextIO
) -> None:
    """One step on the bar and, when due, in the log. Raises TrainingError after too many skipped steps."""
    values = {name: float(value) for name, value in metrics.items()}
    bar.update()
    if number % config.log_every == 0 or number == config.steps:
        bar.set_postfix(loss=f"{values['loss']:.4f}")
        log.write(json.dumps({"step": number, **values, "bad_records": bad_records}) + "\n")
    if values["skipped"] > config.max_skipped:
        raise TrainingError(
            f"step {number}: {values['skipped']:.0f} steps had a non-finite loss or gradient, the last one "
            f"{values['loss']} and {values['grad_norm']}; max_skipped allows {config.max_skipped}"
        )


def export(
    config: TrainConfig, model: ModelConfig, params: dict[str, Params], batches: Iterator[Batch]
) -> None:
    """Writes lora/ when one was trained, and model/ with every network when anything else was."""
    workdir = Path(config.workdir)
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
        where, rest = take_plan(argv)
        if where is not None:
            return plan_training(where, rest)
        config = parse(rest)
        use_compile_cache()
        run(config)


if __name__ == "__main__":
    main()
