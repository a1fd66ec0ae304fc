"""The trainer on real photos: resuming bit for bit, what is trained and what is not, what a run leaves."""

import dataclasses
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image

from tests.tiny_model import TINY
from tests.tiny_run import make_recipe, stop_after_first_step
from uno_jax.data.config import DataConfig
from uno_jax.support.errors import RecipeError
from uno_jax.support.settings import to_dict
from uno_jax.support.trees import join
from uno_jax.training import checkpoints, loop, restoring, run
from uno_jax.training.checkpoints import changed_fields, way_on
from uno_jax.training.config import OptimConfig, SamplesConfig, TrainConfig
from uno_jax.training.optimizer import count_updates
from uno_jax.training.previews import sheet_path, write_sheet
from uno_jax.training.state import split_params
from uno_jax.weights.checkpoint import read_config, read_lora, restore_lora, restore_network
from uno_jax.weights.lora_files import load_tensors


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> TrainConfig:
    return make_recipe(tmp_path_factory.mktemp("run"))


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


@pytest.fixture(scope="module")
def finished(recipe):
    """The state after an undisturbed run."""
    return run.train(recipe)


def test_a_lora_run_trains_the_lora_and_leaves_it_with_its_convention(recipe, finished):
    workdir = Path(recipe.workdir)
    info = read_lora(workdir / "lora")
    assert (info.unope, info.lora, info.mmdit) == (recipe.unope, recipe.lora, TINY.mmdit)
    _, lora = restore_lora(workdir / "lora")
    for stored, trained in zip(leaves(lora), leaves(finished.trainable["lora"]), strict=True):
        np.testing.assert_array_equal(stored, trained)
    in_unos_naming = load_tensors(workdir / "dit_lora.safetensors", TINY.mmdit)
    assert in_unos_naming[:2] == (recipe.lora, recipe.unope)
    for stored, trained in zip(leaves(in_unos_naming[2]), leaves(lora), strict=True):
        np.testing.assert_array_equal(stored, trained.astype(stored.dtype))
        assert stored.dtype == "bfloat16"
    single = finished.trainable["lora"]["single_blocks"]["qkv"]["up"]
    assert single[0].any() and not single[1].any()
    losses = [json.loads(line)["loss"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == recipe.steps and all(np.isfinite(losses))
    assert not (workdir / "model").exists()


@pytest.mark.slow
def test_a_run_that_stopped_early_can_be_exported(recipe, finished, tmp_path):
    stopped = dataclasses.replace(recipe, workdir=str(tmp_path / "run"))
    with pytest.raises(RecipeError, match="nothing to export"):
        run.train(stopped, only_export=True)
    shutil.copytree(Path(recipe.workdir) / "checkpoints/2", tmp_path / "run/checkpoints/2")
    state = run.train(stopped, only_export=True)
    assert int(state.step) == 2
    _, lora = restore_lora(tmp_path / "run/lora")
    for stored, trained in zip(leaves(lora), leaves(state.trainable["lora"]), strict=True):
        np.testing.assert_array_equal(stored, trained)
    assert not (tmp_path / "run/checkpoints/4").exists()


@pytest.mark.slow
def test_a_run_goes_on_bit_for_bit_from_before_a_damaged_checkpoint(recipe, finished, tmp_path, capsys):
    workdir = shutil.copytree(recipe.workdir, tmp_path / "run")
    largest = max((workdir / "checkpoints" / "4").rglob("*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-16] + bytes(16))
    resumed = run.train(dataclasses.replace(recipe, workdir=str(workdir)))
    told = [line for line in capsys.readouterr().out.splitlines() if "damaged" in line]
    assert len(told) == 1 and f"{largest} is damaged" in told[0] and "Step 2 before it is used" in told[0]
    for one, other in zip(leaves(finished), leaves(resumed), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (workdir / "damaged" / "4" / largest.relative_to(workdir / "checkpoints" / "4")).is_file()


def watch_saves(patch, metrics: Path) -> list[list[int]]:
    """Will hold the steps that the log has at each save."""
    logged: list[list[int]] = []

    def save(*args, save=loop.save_checkpoint):
        logged.append([json.loads(line)["step"] for line in metrics.read_text().splitlines()])
        save(*args)

    patch.setattr(loop, "save_checkpoint", save)
    return logged


def test_samples_that_a_killed_run_drew_are_shown_again_and_not_drawn(tmp_path):
    config = TrainConfig(workdir=str(tmp_path), steps=4, samples=SamplesConfig(every=2))
    write_sheet(sheet_path(config, 2), Image.new("RGB", (3, 2), "red"))
    shown, drawn = [], []

    class Shown:
        def pause(self, doing):
            pass

        def log_picture(self, number, name, picture):
            shown.append((number, picture.size))

    def paint(state):
        drawn.append(state)
        return Image.new("RGB", (5, 5))

    for number in (0, 1, 2, 4):
        loop.show_samples(config, paint, number, number, Shown())
    assert shown == [(2, (3, 2)), (4, (5, 5))] and drawn == [4]


@pytest.mark.slow
def test_a_run_stopped_by_sigterm_ends_bit_for_bit_like_an_undisturbed_one(
    recipe, finished, tmp_path, monkeypatch
):
    halves = dataclasses.replace(recipe, workdir=str(tmp_path / "halves"))

    with monkeypatch.context() as patch:
        stop_after_first_step(patch)
        logged = watch_saves(patch, tmp_path / "halves" / "metrics.jsonl")
        stopped = run.train(halves)
    assert logged == [[1, 2], [1, 2]]  # a run killed after a save does not take its step again
    assert stopped.step == 2 and not (tmp_path / "halves" / "lora").exists()
    for whole, half in zip(leaves(finished), leaves(run.train(halves)), strict=True):
        np.testing.assert_array_equal(whole, half)
    assert (tmp_path / "halves" / "lora" / "config.json").is_file()


@pytest.mark.slow
def test_a_run_killed_while_it_saves_ends_bit_for_bit_like_an_undisturbed_one(recipe, finished, tmp_path):
    config = dataclasses.replace(recipe, workdir=str(tmp_path / "killed"))
    names = "from uno_jax.training.config import *\n"
    (tmp_path / "recipe.py").write_text(f"{names}def get_config(): return {config!r}\n")
    command = [sys.executable, "-m", "uno_jax.train", "--config", str(tmp_path / "recipe.py")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not any((tmp_path / "killed/checkpoints").glob("*")):
        time.sleep(0.01)
    assert process.poll() is None, "the run ended before it could be killed"
    process.kill()
    process.wait()
    for whole, resumed in zip(leaves(finished), leaves(run.train(config)), strict=True):
        np.testing.assert_array_equal(whole, resumed)


@pytest.mark.slow
def test_another_recipe_is_not_continued(recipe, finished):
    changed = dataclasses.replace(
        recipe, seed=3, log_every=2, optim=dataclasses.replace(recipe.optim, learning_rate=0.5)
    )
    with pytest.raises(RecipeError, match="optim.learning_rate: 0.01 -> 0.5; seed: 0 -> 3. Continue with"):
        run.train(changed)


@pytest.mark.slow
def test_a_finished_run_says_so_and_more_steps_lengthen_it(recipe, finished, tmp_path, capsys):
    workdir = shutil.copytree(recipe.workdir, tmp_path / "run")
    again = dataclasses.replace(recipe, workdir=str(workdir))
    run.train(again)
    told = capsys.readouterr().out
    assert f"{workdir} is finished: more --steps than 4" in told
    assert told.endswith(f"wrote {workdir / 'lora'} and {workdir / 'dit_lora.safetensors'} (step 4)\n")
    with pytest.raises(RecipeError, match="is at step 4 already, beyond steps 3: give more --steps"):
        run.train(dataclasses.replace(again, steps=3))
    assert run.train(dataclasses.replace(again, steps=5)).step == 5
    assert (workdir / "checkpoints" / "5").is_dir()


def test_a_run_whose_rate_decays_is_not_lengthened(tmp_path):
    decaying = dataclasses.replace(TrainConfig(), optim=OptimConfig(decay_to=0.1), steps=4)
    checkpoints = SimpleNamespace(directory=tmp_path / "run" / "checkpoints")
    longer = dataclasses.replace(decaying, steps=8)
    assert changed_fields(to_dict(decaying), to_dict(longer)) == ["steps: 4 -> 8"]
    advice = way_on(checkpoints, to_dict(decaying), longer)
    assert f"cannot be lengthened: start a new run from it with --init-run {tmp_path / 'run'}" in advice
    assert "Continue with the old settings" in way_on(
        checkpoints, to_dict(decaying), dataclasses.replace(longer, seed=1)
    )


@pytest.mark.slow
def test_a_run_from_before_a_field_was_there_goes_on(recipe, finished, tmp_path):
    old = dataclasses.replace(recipe, workdir=str(tmp_path / "old"))
    shutil.copytree(recipe.workdir, old.workdir)
    (path,) = Path(old.workdir).glob("checkpoints/4/recipe/metadata")
    recorded = json.loads(path.read_text())
    del recorded["version"], recorded["unroll"], recorded["optim"]["ema_decay"]
    path.write_text(json.dumps(recorded))
    (path.parents[1] / "digests.json").unlink()
    assert int(run.train(old).step) == 4


@pytest.mark.slow
def test_another_run_is_carried_on_with_its_optimizer(recipe, finished, tmp_path):
    onward = dataclasses.replace(recipe, workdir=str(tmp_path / "onward"), init_run=recipe.workdir, steps=1)
    state = run.train(onward)
    assert state.step == 1
    adam = state.opt_state[1][0]
    assert adam.count == recipe.steps + 1 and count_updates(state.opt_state) == 1
    with pytest.raises(RecipeError, match="init_run: no checkpoints in"):
        run.train(dataclasses.replace(onward, workdir=str(tmp_path / "more"), init_run=str(tmp_path)))


@pytest.mark.slow
def test_everything_can_be_trained_and_is_left_as_a_model(recipe, tmp_path):
    patterns = ("mmdit/double_blocks/.*", "t5/.*")
    whole = dataclasses.replace(recipe, workdir=str(tmp_path), trainable=patterns, steps=1, batch_size=4)
    run.train(whole)
    for kind, changed in (("mmdit", True), ("t5", True), ("clip", False), ("vae", False)):
        before = leaves(restore_network(Path(recipe.weights) / kind)[1])
        after = leaves(restore_network(tmp_path / "model" / kind)[1])
        assert any((a != b).any() for a, b in zip(before, after, strict=True)) == changed
    assert not (tmp_path / "lora").exists()


@pytest.mark.slow
def test_an_autoencoder_run_measures_its_latents(recipe, tmp_path):
    config = dataclasses.replace(
        recipe, workdir=str(tmp_path), objective="autoencoder", trainable=("vae/.*",), steps=1
    )
    run.train(config)
    stored = read_config(tmp_path / "model" / "vae", "vae")
    assert (
        stored.width == TINY.vae.width and stored.scale != TINY.vae.scale and stored.shift != TINY.vae.shift
    )
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["vae"]


def test_split_and_join_are_inverse():
    params = {"mmdit": {"a": {"kernel": 1}, "b": 2}, "t5": {"c": 3}}
    frozen, trainable = split_params(params, ("mmdit/a/.*",))
    assert trainable == {"mmdit": {"a": {"kernel": 1}}}
    assert frozen == {"mmdit": {"b": 2}, "t5": {"c": 3}}
    assert join(frozen, trainable) == params
    with pytest.raises(RecipeError, match="matches no parameter"):
        split_params(params, ("mmdit/z",))


def as_version_0_2(workdir: Path) -> None:
    """Takes out of a run's checkpoints what that version did not know."""
    for path in workdir.glob("checkpoints/*/recipe/metadata"):
        recipe = json.loads(path.read_text())
        recipe.pop("version", None)
        del recipe["data"]["buckets"]
        path.write_text(json.dumps(recipe))
        (path.parents[1] / "digests.json").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("saved", "asked", "goes_on"),
    [
        ("own", "own", "own"),
        ("mean", "own", "mean"),
        ("", "own", "mean"),
        ("", "mean", "mean"),
        ("own", "mean", "mean"),  # which restoring then refuses
    ],
)
def test_a_run_keeps_the_shapes_of_batches_that_it_began_with(tmp_path, saved, asked, goes_on):
    config = TrainConfig(workdir=str(tmp_path), data=DataConfig(path="list.json", buckets=saved or "mean"))
    with checkpoints.open_checkpoints(config) as manager:
        manager.save(3, args=ocp.args.Composite(recipe=ocp.args.JsonSave(to_dict(config))))
    if not saved:
        as_version_0_2(tmp_path)
    now = dataclasses.replace(config, data=dataclasses.replace(config.data, buckets=asked))
    assert restoring.as_begun(now).data.buckets == goes_on
    elsewhere = dataclasses.replace(now, workdir=str(tmp_path / "new"))
    assert restoring.as_begun(elsewhere) == elsewhere


@pytest.mark.slow
def test_a_run_of_version_0_2_on_a_list_without_sizes_goes_on_bit_for_bit(
    recipe, finished, tmp_path, capsys, monkeypatch
):
    """The list is of squares, whose mean is their own shape, so that the numbers are those of `finished`."""
    halves = dataclasses.replace(recipe, workdir=str(tmp_path / "halves"))
    with monkeypatch.context() as patch:
        stop_after_first_step(patch)
        run.train(dataclasses.replace(halves, data=dataclasses.replace(recipe.data, buckets="mean")))
    as_version_0_2(tmp_path / "halves")
    capsys.readouterr()
    resumed = run.train(halves)
    assert "goes on with batches of mean shapes, as it began" in capsys.readouterr().out
    for one, other in zip(leaves(finished), leaves(resumed), strict=True):
        np.testing.assert_array_equal(one, other)
