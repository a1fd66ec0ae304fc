"""What cannot fit into memory is refused before any weight is loaded."""

import dataclasses
import resource

import jax
import pytest

from tests.tiny_model import TINY, write_model
from tests.tiny_run import make_recipe
from uno_jax.data.config import DataConfig, SourceConfig
from uno_jax.evaluation.toybox import cases
from uno_jax.evaluation.toybox.cases import check_cases_memory
from uno_jax.families.registry import family_of
from uno_jax.sample import main as sample
from uno_jax.support import memory
from uno_jax.support.errors import RecipeError
from uno_jax.training.config import LoraConfig
from uno_jax.training.start_check import check_batch_memory, check_start, smallest_target
from uno_jax.weights.load import held_bytes, load_model, read_model_config


@pytest.fixture
def little(monkeypatch):
    """32 MB are free."""
    for module in (memory, cases):
        monkeypatch.setattr(module, "free_host_bytes", lambda: 32 << 20)


def test_free_memory_is_what_the_process_may_still_take():
    free, before = memory.free_host_bytes(), resource.getrlimit(resource.RLIMIT_AS)
    used = memory._fields("/proc/self/status")["VmSize"] << 10
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), before[1]))
    try:
        assert memory.free_host_bytes() <= 1 << 20 < free
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_more_pictures_larger_pictures_and_references_need_more():
    def need(batch, *sizes):
        return family_of(TINY).sampler.least_bytes(TINY, batch, sizes, "float32")

    one = need(1, (64, 64))
    assert need(4, (64, 64)) > 3 * one > 0
    assert need(1, (512, 512)) > 50 * one
    assert need(1, (64, 64), (512, 512)) > need(1, (512, 512))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--width", "2048", "--height", "2048"],
            "the weights and 1 picture of 2048x2048 at once take at least",
        ),
        (["--num-images", "9999", "--batch-size", "9999"], "9,999 pictures of 64x64 at once"),
    ],
)
def test_sampling_refuses_what_does_not_fit(words, message, little, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("uno_jax.sampling.run.load_model", lambda *_: pytest.fail("weights were loaded"))
    model = str(write_model(tmp_path / "model"))
    with pytest.raises(SystemExit) as stop:
        sample(["--model", model, "--prompt", "a", "--out", str(tmp_path / "new"), *words])
    told = capsys.readouterr().err
    assert stop.value.code == 2 and message in told and "GiB are free: give a smaller" in told


def test_sampling_counts_the_weights_as_they_are_loaded(tmp_path, monkeypatch, capsys):
    place = write_model(tmp_path / "model")
    kinds = family_of(read_model_config(place)).networks
    held = held_bytes(place, kinds, "float32")
    model = load_model(place, dtype="float32")
    assert held == sum(leaf.nbytes for leaf in jax.tree.leaves(model.params))
    assert held_bytes(place, kinds, "bfloat16") == held // 2 > held_bytes(place, kinds, "bfloat16", "int8")
    words = ["--model", str(place), "--prompt", "a", "--steps", "1", "--out", str(tmp_path / "new")]
    monkeypatch.setattr(memory, "free_host_bytes", lambda: held - 1)
    with pytest.raises(SystemExit):
        sample(words)
    assert "the model's weights take at least" in capsys.readouterr().err


def test_pictures_that_are_there_need_no_memory(little, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("uno_jax.sampling.run.is_finished", lambda output: True)
    words = ["--model", str(write_model(tmp_path / "model")), "--prompt", "a", "--width", "4096"]
    sample([*words, "--height", "4096", "--out", str(tmp_path / "new")])
    assert "kept" in capsys.readouterr().out


def test_training_refuses_weights_that_do_not_fit(little, tmp_path):
    recipe = make_recipe(tmp_path)
    with pytest.raises(RecipeError, match="trained and .* frozen parameters take at least"):
        check_start(dataclasses.replace(recipe, lora=LoraConfig(rank=100_000)), TINY)
    # A batch is not made for an export.
    check_start(dataclasses.replace(recipe, batch_size=16_384), TINY, only_export=True)


def test_training_refuses_a_batch_that_does_not_fit(little, tmp_path):
    large = dataclasses.replace(make_recipe(tmp_path), batch_size=16_384)
    with pytest.raises(RecipeError, match="the weights and 16,384 samples of .* at once take at least"):
        check_batch_memory(large, TINY, 0)
    check_batch_memory(dataclasses.replace(large, batch_size=256, accumulate=256), TINY, 0)
    small = dataclasses.replace(large.data, sources=(SourceConfig("a", size=(16, 32)), SourceConfig("b")))
    assert smallest_target(small) == (16, 32) and smallest_target(DataConfig(resolution=512)) == (256, 768)


def test_the_toybox_suite_refuses_what_does_not_fit(little):
    check_cases_memory(64, 60)
    with pytest.raises(RecipeError, match="100,000 cases of each kind in pictures of 64x64 take at least"):
        check_cases_memory(64, 100_000)
