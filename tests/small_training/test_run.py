"""`uno-train-small` trains its parts in order, on the tiny model here, and continues where it stopped."""

import contextlib
import dataclasses
import json
import time
from concurrent.futures import Future
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uno_jax.families.uno.config import PRESETS
from uno_jax.networks.registry import apply, init_params
from uno_jax.networks.vae import Autoencoder, posterior_mean
from uno_jax.small_training import loop, run
from uno_jax.small_training.loop import (
    LONGEST_STEP,
    Done,
    choose_step,
    drop_repeated_lines,
    make_step,
    optimizer,
    random_key,
    rate_at,
    restore_state,
    save_state,
    split,
    trained_since,
)
from uno_jax.small_training.parts import MODEL, Job, Schedule, choose_platform, make_parts
from uno_jax.small_training.run import ENDING, Minutes, SmallArgs, fit_minutes, train_small
from uno_jax.small_training.weights import abstract_networks, normalise_latents
from uno_jax.small_training.worlds import Inputs
from uno_jax.support.errors import CheckpointError
from uno_jax.toybox import load_subjects
from uno_jax.toybox.device import draw_bank, make_world
from uno_jax.toybox.device.caption_tokens import make_caption_tables
from uno_jax.train_small import main
from uno_jax.training.config import TrainConfig
from uno_jax.training.state import TrainState
from uno_jax.weights.checkpoint import read_config, restore_lora, restore_network, save_network

A_MOMENT = 1e-6  # minutes


def stub_step(job, turn, params, inputs):
    """In place of a compiled step, which takes half a minute to make: counts, and changes nothing else."""

    def step(state, frozen, inputs, key, progress):
        zero = jnp.zeros(())
        return state._replace(step=state.step + 1), {"loss": zero, "grad_norm": zero, "skipped": zero}

    return step


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Runs parts of the tiny model for so many minutes, without a world to draw from."""
    pictures = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (8, 32, 32, 3)), jnp.float32)
    monkeypatch.setattr(run, "compile_step", stub_step)
    monkeypatch.setattr(run, "make_inputs", lambda *_: None)
    monkeypatch.setattr(run, "draw_pictures", lambda *_: pictures)

    def train(**minutes: float) -> list[str]:
        only = dataclasses.replace(Minutes(0.0, 0.0, 0.0, 0.0, 0.0), **minutes)
        train_small(SmallArgs(out=tmp_path, minutes=only, per_scene=1), PRESETS["tiny"])
        return json.loads((tmp_path / "done.json").read_text())

    return train


@pytest.mark.slow
def test_parts_follow_one_another_and_are_not_trained_again(trained, tmp_path):
    assert trained(autoencoder=A_MOMENT) == ["autoencoder"]
    assert read_config(tmp_path / "model" / "vae", "vae") == PRESETS["tiny"].vae
    assert trained(autoencoder=A_MOMENT, base=A_MOMENT, stage1=A_MOMENT) == ["autoencoder", "base", "stage1"]
    restore_lora(tmp_path / "model" / "lora")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    # A slow machine logs more than the last step.
    assert list(dict.fromkeys(line["part"] for line in lines)) == ["autoencoder", "base", "stage1"]
    assert not list(tmp_path.glob("*.npz"))


@pytest.mark.slow
def test_a_network_of_which_a_part_is_trained_stays_whole(trained, tmp_path):
    trained(autoencoder=A_MOMENT)
    before = restore_network(tmp_path / "model" / "vae")[1]
    trained(decoder=A_MOMENT)
    for old, new in zip(
        jax.tree.leaves(before), jax.tree.leaves(restore_network(tmp_path / "model" / "vae")[1]), strict=True
    ):
        np.testing.assert_array_equal(old, new)


def test_nothing_is_trained_on_networks_that_are_not_there(tmp_path):
    only = Minutes(0.0, 0.0, 0.0, 1.0, 0.0)
    with pytest.raises(CheckpointError, match="stage1 needs vae, which .* does not hold"):
        train_small(SmallArgs(out=tmp_path / "new", minutes=only), PRESETS["tiny"])
    assert not (tmp_path / "new").exists()


def test_a_decoder_is_not_trained_for_an_encoder_that_is_not_there(tmp_path):
    only = dataclasses.replace(Minutes(0.0, 0.0, 0.0, 0.0, 0.0), decoder=1.0)
    with pytest.raises(CheckpointError, match="decoder needs vae, which .* does not hold"):
        train_small(SmallArgs(out=tmp_path / "new", minutes=only), PRESETS["tiny"])


def test_networks_of_other_sizes_are_refused(tmp_path):
    config = PRESETS["tiny"].vae
    params = jax.jit(lambda key: init_params(config, key))(jax.random.key(0))
    save_network(tmp_path / "model" / "vae", config, params)
    with pytest.raises(CheckpointError, match="choose another --out"):
        train_small(SmallArgs(out=tmp_path), MODEL)


@pytest.mark.slow
def test_a_part_that_sigterm_stops_continues_where_it_was(trained, tmp_path, monkeypatch):
    stops = iter([False, False, False, True])
    monkeypatch.setattr(loop, "stop_signal", lambda: contextlib.nullcontext(lambda _: next(stops)))
    with pytest.raises(FileNotFoundError):  # no part is over
        trained(autoencoder=5.0)
    with np.load(tmp_path / "autoencoder.npz") as file:
        assert json.loads(str(file["record"]))["steps"] == 3
    monkeypatch.setattr(loop, "stop_signal", lambda: contextlib.nullcontext(lambda _: False))
    assert trained(autoencoder=A_MOMENT) == ["autoencoder"]  # its time is over: no step more
    assert (tmp_path / "log.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 cut short", "autoencoder.npz is not a state of this part"),
        (b"", "autoencoder.npz is not a state of this part"),
    ],
)
def test_a_damaged_state_is_refused_by_name(content, message, tmp_path):
    job = Job(make_parts(choose_platform(MODEL), MODEL)["autoencoder"], MODEL, TrainConfig(), 1.0, tmp_path)
    (tmp_path / "autoencoder.npz").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        restore_state(job, None)


def test_a_state_of_another_model_is_refused(tmp_path):
    job = Job(make_parts(choose_platform(MODEL), MODEL)["autoencoder"], MODEL, TrainConfig(), 1.0, tmp_path)
    zero = jnp.zeros((), jnp.int32)
    save_state(job, TrainState(zero, {"a": jnp.zeros(3)}, (), {}, zero), Done(2.0, 5))
    same, done = restore_state(job, TrainState(zero, {"a": jnp.ones(3)}, (), {}, zero))
    assert done == Done(2.0, 5) and not same.trainable["a"].any()
    with pytest.raises(CheckpointError, match="of another model"):
        restore_state(job, TrainState(zero, {"a": jnp.ones(4)}, (), {}, zero))


@pytest.mark.parametrize("content", ["{", '{"base": 1}'])
def test_a_damaged_list_of_parts_is_refused_by_name(content, tmp_path):
    (tmp_path / "done.json").write_text(content)
    with pytest.raises(CheckpointError, match="done.json"):
        train_small(SmallArgs(out=tmp_path), PRESETS["tiny"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["autoencoder", "base", "stage2"])
def test_steps_can_be_traced(name, tmp_path):
    """Shapes and annotations of the whole step, which would take long to compile here."""
    model = PRESETS["tiny"]
    platform = choose_platform(model, 0.01)
    part = make_parts(platform, model)[name]
    job = Job(part, model, platform.recipe, 1.0, tmp_path)
    world = make_world(draw_bank(1, 80), load_subjects(split="train")[::40], 64)
    inputs = Inputs(world, make_caption_tables(world.atlas.names), {})
    state, frozen = jax.eval_shape(partial(split, job), abstract_networks(part, model))
    turn = max(part.losses)
    key, progress = random_key(job), jnp.zeros(())
    after, metrics = jax.eval_shape(make_step(job, part.losses[turn]), state, frozen, inputs, key, progress)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert metrics["loss"].shape == ()


def test_latents_are_scaled_to_deviation_one_and_pictures_stay():
    config = PRESETS["tiny"].vae
    params = jax.jit(lambda key: init_params(config, key))(jax.random.key(0))
    image = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (8, 32, 32, 3)), jnp.float32)
    scaled = normalise_latents(params, config, image)
    encode, decode = (
        jax.jit(lambda tree, x, how=how: apply(config, {"params": tree}, x, method=how))
        for how in (Autoencoder.encode, Autoencoder.decode)
    )
    moments, before = (encode(tree, image) for tree in (scaled, params))
    means = moments[..., : config.latent_channels]
    np.testing.assert_allclose(config.scale * means.std((0, 1, 2)), 1, rtol=1e-4)
    pictures, same = (
        decode(tree, posterior_mean(config, its)) for tree, its in ((scaled, moments), (params, before))
    )
    np.testing.assert_allclose(pictures, same, atol=1e-4)


def test_the_time_that_is_left_is_shared(tmp_path):
    model = PRESETS["tiny"]
    platform = choose_platform(model, 0.01)
    parts, planned = make_parts(platform, model), {"base": 3.0, "stage1": 1.0}
    jobs = [Job(parts[name], model, platform.recipe, minutes, tmp_path) for name, minutes in planned.items()]
    assert fit_minutes(SmallArgs(), jobs[0], jobs, start=0.0) == 3.0
    assert fit_minutes(SmallArgs(most_minutes=2.0), jobs[0], jobs, start=-1e9) == 0
    now = time.monotonic()
    late = fit_minutes(SmallArgs(most_minutes=2 + ENDING / 60), jobs[0], jobs, start=now)
    assert late == pytest.approx(1.5, abs=0.01)


@pytest.mark.slow
def test_a_part_without_time_is_not_over(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "fit_minutes", lambda *_: 0.0)
    with pytest.raises(FileNotFoundError):  # done.json
        trained(autoencoder=1.0)
    assert not (tmp_path / "model").exists()


def test_the_rate_warms_up_and_cools_down():
    schedule = Schedule(1.0, 10, 0.9, cooling=0.5)
    assert rate_at(schedule, jnp.array(0), jnp.array(0.0)) == pytest.approx(0.1)
    assert rate_at(schedule, jnp.array(99), jnp.array(0.4)) == pytest.approx(1.0)
    assert rate_at(schedule, jnp.array(99), jnp.array(0.75)) == pytest.approx(0.5)
    assert rate_at(schedule, jnp.array(99), jnp.array(1.0)) == 0
    optimizer(schedule, 0.1).init({"a": jnp.zeros(2)})


def test_a_step_that_is_not_compiled_yet_is_replaced_by_the_first():
    first, second = Future(), Future()
    first.set_result("first")
    steps = {-1: first, 2: second}
    assert [choose_step((-1, 2), steps, number) for number in range(3)] == ["first", "first", "first"]
    second.set_result("second")
    assert [choose_step((-1, 2), steps, number) for number in range(3)] == ["first", "second", "first"]


def test_a_process_that_was_suspended_has_not_trained_in_the_meantime():
    assert trained_since(None, 5.0) == 0
    assert trained_since(3.0, 5.0) == 2
    assert trained_since(3.0, 3600.0) == LONGEST_STEP


def test_every_turn_of_a_part_has_its_loss():
    for part in make_parts(choose_platform(MODEL), MODEL).values():
        assert set(part.turns) == set(part.losses)


def test_the_command_refuses_what_is_not_there(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--out", str(tmp_path), "--per-scene", "1", "--perceptual", str(tmp_path / "none.safetensors")])
    assert stop.value.code == 2
    assert "none.safetensors" in capsys.readouterr().err


def test_what_a_killed_run_logged_and_will_train_again_is_dropped(tmp_path):
    parts = make_parts(choose_platform(MODEL), MODEL)
    job = Job(parts["base"], MODEL, TrainConfig(), 1.0, tmp_path)
    zero = jnp.zeros((), jnp.int32)
    save_state(job, TrainState(zero, {"a": jnp.zeros(3)}, (), {}, zero), Done(2.0, 5))
    log = tmp_path / "log.jsonl"
    before = [{"part": "autoencoder", "steps": 9}, {"part": "base", "steps": 1}, {"part": "base", "steps": 5}]
    kept = "".join(f"{json.dumps(line)}\n" for line in before)
    log.write_text(kept + '{"part": "base", "steps": 7}\n{"part": "base", "st')
    drop_repeated_lines(job, log)
    assert log.read_text() == kept


def test_the_state_of_a_part_that_was_over_at_a_kill_is_removed(tmp_path):
    (tmp_path / "done.json").write_text('["autoencoder"]')
    for name in ("autoencoder", "base"):
        (tmp_path / f"{name}.npz").touch()
    only = Minutes(1.0, 0.0, 0.0, 0.0, 0.0)
    train_small(SmallArgs(out=tmp_path, minutes=only), PRESETS["tiny"])
    assert not (tmp_path / "autoencoder.npz").exists() and (tmp_path / "base.npz").exists()
