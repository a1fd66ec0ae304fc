"""What people look at: rates, logs, samples, profiles; and that looking changes nothing."""

import dataclasses
import errno
import importlib.machinery
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm import tqdm

from tests.tiny_model import TINY
from tests.tiny_run import make_recipe, stop_after_first_step
from uno_jax import train
from uno_jax.costs.chips import Chip
from uno_jax.families.uno.lora import LoraInfo, abstract_lora
from uno_jax.sampling.generate import generate
from uno_jax.support.contact_sheet import Row, contact_sheet
from uno_jax.training import run
from uno_jax.training.config import SamplesConfig, TrainConfig
from uno_jax.training.disk_full import FullDiskError, report_full_disk
from uno_jax.training.log_writers import jsonl, tensorboard
from uno_jax.training.loop import TrainingError, check_skipped
from uno_jax.training.previews import preview_sheet, read_samples
from uno_jax.training.progress import Progress, Step
from uno_jax.training.recipes import RecipeArgs, load_recipe, parse_recipe_args, recipe_text
from uno_jax.weights.checkpoint import save_lora
from uno_jax.weights.load import load_model


class Bar(tqdm):
    """A bar that only records what it is asked to show."""

    def __init__(self):
        super().__init__(disable=True)
        self.texts, self.steps = [], 0

    def set_postfix_str(self, text, refresh=True):
        self.texts.append(text)

    def update(self):
        self.steps += 1


def step(number, loss=0.5, skipped=0, flops=None) -> Step:
    metrics = {"loss": np.float32(loss), "grad_norm": np.float32(1), "skipped": np.int32(skipped)}
    return Step(number, metrics, ("a record 3", "a record 17"), 1, flops)


def watched(log_every=2, peak=1e12):
    """The progress of a run of 100 steps, 8 images each; its bar, its lines and its clock, set by hand."""
    config, bar, lines, now = TrainConfig(steps=100, batch_size=8, log_every=log_every), Bar(), [], [0.0]
    rates = np.linspace(0, 1, 101)
    progress = Progress(config, bar, [lambda *line: lines.append(line)], rates, peak, clock=lambda: now[0])
    return progress, bar, lines, now


def test_rates_leave_out_compilation_and_pauses():
    progress, bar, lines, now = watched()
    progress.pause("compiling…")
    for number, time in enumerate([60.0, 62.0, 64.0, 66.0, 80.0, 82.0], start=1):
        if number == 5:
            progress.pause("drawing samples…")
        now[0] = time
        progress.report(step(number, flops=int(5e11)))
    assert [number for number, _ in lines] == [2, 4, 6]
    for _, values in lines:
        assert (values["images_per_second"], values["mfu"]) == (4.0, 0.25)
    assert bar.texts[0] == "compiling…" and bar.texts[1] == "loss 0.5000" and bar.steps == 6
    assert bar.texts[-1] == "loss 0.5000, 4 images/s, MFU 25.0%, 03:08 left"


def test_what_is_not_known_is_left_out():
    progress, bar, lines, _ = watched(log_every=1, peak=None)
    progress.report(step(1))
    assert lines[0][1].keys() == {"loss", "grad_norm", "skipped", "learning_rate", "bad_records"}
    assert bar.texts[-1] == "loss 0.5000"


def test_the_learning_rate_is_that_of_the_update_and_skipped_steps_make_none():
    progress, _, lines, _ = watched()
    for number, skipped in ((1, 0), (2, 0), (3, 1), (4, 1)):
        progress.report(step(number, np.nan if number == 3 else 1.0, skipped))
    assert [(n, round(values["learning_rate"], 4)) for n, values in lines] == [
        (2, 0.01),
        (3, 0.01),
        (4, 0.02),
    ]


def test_a_skipped_step_is_logged_with_its_records_whatever_log_every_says(capsys):
    progress, _, lines, _ = watched()
    bad = step(5, np.nan, 1)
    measured = progress.report(bad)
    number, values = lines[0]
    assert (number, values["loss"], values["records"]) == (5, None, ["a record 3", "a record 17"])
    check_skipped(TrainConfig(max_skipped=1), bad, measured)
    told = capsys.readouterr().out
    assert "step 5: non-finite loss, skipped; records a record 3, a record 17" in told
    with pytest.raises(TrainingError, match="max_skipped allows 0; its records are a record 3, a record 17"):
        check_skipped(TrainConfig(max_skipped=0), bad, measured)


def test_a_log_goes_on_after_the_step_that_was_saved(tmp_path):
    file = tmp_path / "metrics.jsonl"
    with jsonl(file, 0) as write:
        for number in (1, 2, 3):
            write(number, {"loss": 1.0, "samples": Image.new("RGB", (1, 1))})
    with file.open("a") as killed:
        killed.write('{"step": 4, "lo')
    with jsonl(file, 2) as write:
        write(3, {"loss": 2.0})
        write(4, {"samples": Image.new("RGB", (1, 1))})
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1.0), (2, 1.0), (3, 2.0)]


def events(folder) -> EventAccumulator:
    read = EventAccumulator(str(folder))
    read.Reload()
    return read


def test_tensorboard_shows_numbers_and_pictures_of_the_steps_that_count(tmp_path):
    with tensorboard(tmp_path, 0) as write:
        for number in (1, 2, 3):
            write(number, {"loss": float(number), "records": ["a"], "mfu": None})
    with tensorboard(tmp_path, 2) as write:
        write(3, {"loss": 30.0, "samples": Image.new("RGB", (6, 4))})
    read = events(tmp_path)
    assert [(e.step, e.value) for e in read.Scalars("loss")] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    (picture,) = read.Images("samples")
    assert (picture.step, picture.width, picture.height) == (3, 6, 4)
    assert read.Tags()["scalars"] == ["loss"]


def test_a_sheet_shows_every_picture_in_its_shape_and_long_prompts_in_lines():
    red, blue = Image.new("RGB", (50, 50), "red"), Image.new("RGB", (100, 50), "blue")
    one = contact_sheet(["reference", "sample"], [Row([None, red], "short")])
    two = contact_sheet(["reference", "sample"], [Row([red, blue], "long " * 40), Row([None, blue], "")])
    assert one.width == two.width == 2 * 256 + 24 and two.height > 2 * one.height - 40
    assert two.getpixel((140, 260)) == (255, 0, 0) and two.getpixel((396, 100)) == (0, 0, 255)
    assert two.getpixel((396, 200)) == (255, 255, 255)
    assert contact_sheet(["a"], [Row([red], "")] * 3, abreast=2).width == 2 * (256 + 24)


def test_a_recipe_is_printed_as_a_recipe(tmp_path, capsys):
    args = ["--config", "uno_1024.py", "--steps", "7", "--data.path", "nowhere.json", "--samples.every", "3"]
    train.main([*args, "--print-config"])
    (tmp_path / "printed.py").write_text(capsys.readouterr().out)
    assert (
        load_recipe(str(tmp_path / "printed.py")) == parse_recipe_args(RecipeArgs, "uno-train", args).recipe
    )


# Whole runs of the tiny model.


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> TrainConfig:
    return make_recipe(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def plain(recipe):
    """The state after a run that nobody looked at."""
    return run.train(recipe)


def same(one, two) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.fixture
def wandb(monkeypatch):
    """Stands in for the package: what runs were opened, and what they were given."""
    opened = []

    class Run(types.SimpleNamespace):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.closed = True

        def log(self, values, step):
            self.logged[step] = {**self.logged.get(step, {}), **values}

    def init(**about):
        opened.append(Run(id="k3", about=about, logged={}))
        return opened[-1]

    package = types.ModuleType("wandb")
    package.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    package.init, package.Image = init, lambda picture: ("picture", picture.size)
    package.Error = type("Error", (Exception,), {})
    monkeypatch.setitem(sys.modules, "wandb", package)
    return opened


@pytest.mark.slow
def test_a_run_that_is_watched_and_stopped_ends_bit_for_bit_like_one_that_is_not(
    recipe, plain, tmp_path, monkeypatch, wandb
):
    jobs = Path(recipe.data.path).with_name("jobs.json")
    entry = {"prompt": "a cat", "image_path": "chelsea.jpg"}
    jobs.write_text(json.dumps([entry, {**entry, "prompt": "a cup", "seed": 5}]))
    samples = SamplesConfig(every=3, jobs=str(jobs), steps=2, width=64, height=64)
    config = dataclasses.replace(
        recipe, workdir=str(tmp_path), samples=samples, wandb_project="uno", profile_steps=1
    )

    with monkeypatch.context() as patch:
        stop_after_first_step(patch)
        # A peak to measure against, as of an accelerator.
        patch.setattr("uno_jax.training.progress.chip_of", lambda device: Chip("any", None, 1.0))
        assert run.train(config).step == 2
    state = run.train(config)
    assert same(state, plain)

    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert "images_per_second" not in lines[0] and lines[1]["images_per_second"] > 0
    assert lines[1]["mfu"] > 0 and "mfu" not in lines[3]
    assert {line["learning_rate"] for line in lines} == {np.float32(0.01)}
    read = events(tmp_path / "tensorboard")
    assert [e.step for e in read.Scalars("loss")] == [1, 2, 3, 4]
    assert [e.step for e in read.Images("samples")] == [3, 4]
    assert [run.about["id"] for run in wandb] == [None, "k3"] and all(run.closed for run in wandb)
    assert wandb[0].logged[1]["loss"] == lines[0]["loss"] and wandb[1].logged[3]["samples"][0] == "picture"
    assert sorted(file.name for file in (tmp_path / "samples").iterdir()) == [
        "step_000003.png",
        "step_000004.png",
    ]


@pytest.mark.slow
def test_samples_are_what_the_exported_lora_draws(recipe, plain):
    """Of the run above: drawn from the training state, and again from what it left."""
    jobs = Path(recipe.data.path).with_name("jobs.json")
    jobs.write_text(json.dumps([{"prompt": "a cat", "image_path": "chelsea.jpg"}]))
    samples = SamplesConfig(every=4, jobs=str(jobs), steps=2, width=64, height=64)
    config = dataclasses.replace(recipe, samples=samples)
    read = read_samples(config, load_model(recipe.weights).config)
    run.train(config)  # has its last step behind it, but not the picture of it
    model = load_model(recipe.weights, Path(recipe.workdir) / "lora")
    cat = [Image.open(jobs.with_name("chelsea.jpg"))]
    drawn = generate(model, ["a cat"], [cat], width=64, height=64, steps=2)
    expected = np.asarray(preview_sheet(read, drawn), np.int16)
    found = np.asarray(Image.open(Path(recipe.workdir) / "samples" / "step_000004.png"), np.int16)
    # Merged there, a side path here: equal but for float32's rounding, at most a grey value or two.
    assert np.abs(found - expected).max() <= 2 and found.std() > 10


@pytest.mark.slow
def test_a_profile_is_taken_where_it_is_asked_for(recipe, tmp_path):
    """In a process of its own: libtpu's profiler, once a test has compiled for TPU, crashes beside a jaxlib
    of another version.
    """
    config = dataclasses.replace(recipe, workdir=str(tmp_path), profile_steps=1)
    (tmp_path / "recipe.py").write_text(recipe_text(config))
    # jax's profiler has crashed once in some twenty runs of the suite: the next time the stack is shown.
    command = [sys.executable, "-X", "faulthandler", "-m", "uno_jax.train", "--config"]
    ran = subprocess.run([*command, str(tmp_path / "recipe.py")], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert list(tmp_path.glob("profile/plugins/profile/*/*.xplane.pb"))
    assert f"profile in {tmp_path / 'profile'}" in ran.stdout


@pytest.mark.slow
def test_a_non_finite_step_names_its_records(recipe, tmp_path):
    huge = jax.tree.map(
        lambda leaf: np.full(leaf.shape, 1e30, np.float32), abstract_lora(TINY.mmdit, recipe.lora)[0]
    )
    save_lora(tmp_path / "huge", LoraInfo(TINY.mmdit, recipe.lora, recipe.unope), huge)
    wild = dataclasses.replace(recipe, workdir=str(tmp_path), init_lora=str(tmp_path / "huge"), max_skipped=0)
    with pytest.raises(TrainingError, match=r"pairs.json record \d, .*pairs.json record \d"):
        run.train(wild)
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["loss"] is None and last["skipped"] == 1 and len(last["records"]) == recipe.batch_size


@pytest.mark.slow
def test_a_full_disk_stops_the_run_at_its_last_good_checkpoint(recipe, plain, tmp_path, monkeypatch):
    monkeypatch.setattr("uno_jax.training.log_writers.refuse_device", lambda path: None)  # for /dev/full
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    config = dataclasses.replace(recipe, workdir=str(tmp_path), log_every=3)
    message = f"no space left in {tmp_path}; the last good checkpoint is step 2, from which"
    with pytest.raises(FullDiskError, match=message):
        run.train(config)
    (tmp_path / "metrics.jsonl").unlink()
    assert same(run.train(config), plain)


def test_a_full_disk_is_told_apart_from_other_faults(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(FullDiskError, match="there is no checkpoint yet"), report_full_disk(tmp_path):
        raise RuntimeError("the checkpoint's thread failed") from full
    told = ValueError(
        "RESOURCE_EXHAUSTED: Error writing local file: No space left on device [os_error_code='28']"
    )
    with pytest.raises(FullDiskError), report_full_disk(tmp_path):
        raise told
    with pytest.raises(ValueError, match="another"), report_full_disk(tmp_path):
        raise ValueError("another")
