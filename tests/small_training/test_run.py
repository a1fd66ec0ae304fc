"""`uno-train-small` trains its parts in order, on the tiny model here, and continues where it stopped."""

import dataclasses
import json
import time

import jax.numpy as jnp
import numpy as np
import pytest

from uno_jax.families.uno.config import PRESETS
from uno_jax.networks.registry import apply
from uno_jax.networks.vae import Autoencoder, posterior_mean
from uno_jax.small_training.loop import Job, optimizer, rate_at
from uno_jax.small_training.parts import MODEL, Schedule, choose_platform, make_parts, numbers_of
from uno_jax.small_training.run import ENDING, Minutes, SmallArgs, fit_minutes, train_small
from uno_jax.toybox import load_subjects, text_image
from uno_jax.train_small import main
from uno_jax.weights.checkpoint import read_config, restore_network

ONE_STEP = 1e-6  # minutes
NONE = Minutes(0, 0, 0, 0, 0)


def trained(out, **minutes: float) -> SmallArgs:
    args = SmallArgs(out=out, minutes=dataclasses.replace(NONE, **minutes), per_scene=1, batch_share=0.01)
    train_small(args, PRESETS["tiny"])
    return args


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    trained(folder, autoencoder=ONE_STEP)
    return folder


@pytest.mark.slow
def test_each_part_writes_its_networks(out):
    assert json.loads((out / "done.json").read_text()) == ["autoencoder"]
    assert read_config(out / "model" / "vae", "vae") == PRESETS["tiny"].vae
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["loss"]) for line in lines)


@pytest.mark.slow
def test_a_part_that_is_over_is_not_trained_again(out):
    before = (out / "log.jsonl").read_bytes()
    trained(out, autoencoder=ONE_STEP)
    assert (out / "log.jsonl").read_bytes() == before


@pytest.mark.slow
def test_latents_have_deviation_one(out):
    config, params = restore_network(out / "model" / "vae", dtype=jnp.float32)
    pictures = np.stack([sample.target for sample in shown()]) / 127.5 - 1
    moments = apply(config, {"params": params}, pictures, method=Autoencoder.encode)
    assert posterior_mean(config, moments).std() == pytest.approx(1, abs=0.3)


def shown():
    subjects = load_subjects(split="train")
    return [text_image(np.random.default_rng(seed), subjects, 64) for seed in range(12)]


def test_the_time_that_is_left_is_shared(tmp_path):
    platform, model = choose_platform(0.01), PRESETS["tiny"]
    parts, numbers = make_parts(platform, model), numbers_of(platform, model)
    jobs = [
        Job(parts[name], numbers, "", minutes, tmp_path, 0)
        for name, minutes in (("base", 3.0), ("stage1", 1.0))
    ]
    assert fit_minutes(SmallArgs(), jobs[0], jobs, start=0.0) == jobs[0]
    assert fit_minutes(SmallArgs(most_minutes=2.0), jobs[0], jobs, start=-1e9).minutes == 0
    now = time.monotonic()
    late = fit_minutes(SmallArgs(most_minutes=2 + ENDING / 60), jobs[0], jobs, start=now)
    assert late.minutes == pytest.approx(1.5, abs=0.01)


def test_the_rate_warms_up_and_cools_down():
    schedule = Schedule(1.0, 10, 0.9, cooling=0.5)
    assert rate_at(schedule, jnp.array(0), jnp.array(0.0)) == pytest.approx(0.1)
    assert rate_at(schedule, jnp.array(99), jnp.array(0.4)) == pytest.approx(1.0)
    assert rate_at(schedule, jnp.array(99), jnp.array(0.75)) == pytest.approx(0.5)
    assert rate_at(schedule, jnp.array(99), jnp.array(1.0)) == 0
    optimizer(schedule, 0.1).init({"a": jnp.zeros(2)})


def test_every_turn_of_a_part_has_its_loss():
    for part in make_parts(choose_platform(), MODEL).values():
        assert set(part.turns) == set(part.losses)


def test_the_command_refuses_what_is_not_there(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--out", str(tmp_path), "--per-scene", "1", "--perceptual", str(tmp_path / "none.safetensors")])
    assert stop.value.code == 2
    assert "none.safetensors" in capsys.readouterr().err
