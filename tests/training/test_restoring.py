"""Damaged checkpoints of a run: what is used instead, what is reported, and what is kept."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from uno_jax.data.config import DataConfig
from uno_jax.support.errors import RecipeError
from uno_jax.support.json_files import check_fields
from uno_jax.training.checkpoints import check_times, open_checkpoints, save_checkpoint
from uno_jax.training.config import TrainConfig
from uno_jax.training.restoring import as_begun, carry_on, restore_checkpoint
from uno_jax.training.state import TrainState


class Position:
    """Stands for the data: its position is a number."""

    def __init__(self, number=0):
        self.number = number

    def get_state(self):
        return {"next_index": self.number}

    def set_state(self, state):
        self.number = check_fields(state, {"next_index": int}, "position")["next_index"]


def state_of(number):
    """A state whose numbers say the step; its noise does not compress."""
    noise = jnp.asarray(np.random.default_rng(number).standard_normal(512, np.float32))
    return TrainState(jnp.int32(number), {"lora": noise}, (), {}, jnp.int32(0))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run with checkpoints of steps 1, 2 and 3."""
    workdir = tmp_path_factory.mktemp("saved")
    config = TrainConfig(workdir=str(workdir), keep_checkpoints=5, data=DataConfig(path="list.json"))
    with open_checkpoints(config) as checkpoints:
        for number in (1, 2, 3):
            save_checkpoint(checkpoints, config, number, state_of(number), Position(number))
    return config


@pytest.fixture
def config(saved, tmp_path):
    """A copy to be damaged."""
    shutil.copytree(saved.workdir, tmp_path / "run")
    return dataclasses.replace(saved, workdir=str(tmp_path / "run"))


@pytest.fixture
def steps(config, tmp_path):
    return tmp_path / "run" / "checkpoints"


def restored(config, **options):
    """The step that is continued from, after checking that state and data are of the same."""
    position = Position()
    with open_checkpoints(config) as checkpoints:
        state = restore_checkpoint(checkpoints, config, state_of(0), position, **options)
    assert position.number == int(state.step)
    np.testing.assert_array_equal(state.trainable["lora"], state_of(int(state.step)).trainable["lora"])
    return int(state.step)


def largest_in(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip(path):
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    content[np.random.default_rng(0).integers(len(content), size=16)] ^= 1
    path.write_bytes(content.tobytes())


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_junk(path):
    path.write_text("[" * 100_000)


def remove_digests(workdir):
    for path in workdir.glob("checkpoints/*/digests.json"):
        path.unlink()


def test_an_undamaged_run_goes_on_from_its_newest(config, capsys):
    assert restored(config) == 3
    assert "damaged" not in capsys.readouterr().out


@pytest.mark.parametrize("damage", [flip, truncate, make_junk, Path.unlink])
@pytest.mark.parametrize("part", ["state", "data", "recipe", "digests.json"])
def test_the_checkpoint_before_a_damaged_one_is_used(config, steps, capsys, part, damage):
    path = steps / "3" / part
    path = largest_in(path) if path.is_dir() else path
    damage(path)
    if part == "digests.json" and damage is Path.unlink:  # as in a version that wrote none
        assert restored(config) == 3
        return
    assert restored(config) == 2
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 1 and str(path) in told[0] and "Step 2 before it is used instead" in told[0]
    assert sorted(path.name for path in steps.iterdir()) == ["1", "2"]
    kept = steps.parent / "damaged" / "3"
    assert kept.is_dir() and told[0].endswith(f"Kept as {kept}")


def test_an_empty_step_is_passed_over(config, steps, capsys):
    shutil.rmtree(steps / "3")
    (steps / "3").mkdir()
    assert restored(config) == 2
    assert "step 3: " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["state/manifest.ocdbt", "data/metadata", "recipe/metadata"])
def test_a_checkpoint_without_digests_that_cannot_be_read_is_passed_over(config, steps, name):
    remove_digests(steps.parent)
    truncate(steps / "3" / name)
    assert restored(config) == 2


def test_what_takes_the_place_of_a_damaged_one_is_saved(config, steps):
    for _ in range(2):
        flip(largest_in(steps / "3" / "state"))
        assert restored(config) == 2
        with open_checkpoints(config) as checkpoints:
            save_checkpoint(checkpoints, config, 3, state_of(3), Position(3))
        assert restored(config) == 3
    assert sorted(path.name for path in (steps.parent / "damaged").iterdir()) == ["3", "3.1"]


def test_reading_alone_moves_nothing(config, steps, capsys):
    flip(largest_in(steps / "3"))
    assert restored(config, only_read=True) == 2
    assert "Kept as" not in capsys.readouterr().out
    assert sorted(path.name for path in steps.iterdir()) == ["1", "2", "3"]


def test_where_all_are_damaged_each_is_named_and_nothing_is_moved(config, steps):
    for folder in steps.iterdir():
        flip(largest_in(folder / "state"))
    with pytest.raises(RecipeError, match=r"every .* is damaged \(step 3: .*step 2: .*step 1: "):
        restored(config)
    assert sorted(path.name for path in steps.iterdir()) == ["1", "2", "3"]


def test_another_recipe_is_no_damage(config, steps):
    with pytest.raises(RecipeError, match="of another recipe: batch_size"):
        restored(dataclasses.replace(config, batch_size=7))


def test_an_intact_checkpoint_of_other_arrays_is_no_damage(config, steps):
    other = state_of(0)._replace(trainable={"lora": jnp.zeros(8)})
    with open_checkpoints(config) as checkpoints, pytest.raises(RecipeError, match="3 cannot be read: "):
        restore_checkpoint(checkpoints, config, other, Position())
    with pytest.raises(RecipeError, match=re.escape("does not fit this run")):
        carry_on(config.workdir, other)


def test_another_run_is_carried_on_from_before_a_damaged_checkpoint(config, steps, capsys):
    flip(largest_in(steps / "3"))
    carried = carry_on(config.workdir, state_of(0))
    np.testing.assert_array_equal(carried.trainable["lora"], state_of(2).trainable["lora"])
    assert int(carried.step) == 0 and "Step 2 before it" in capsys.readouterr().out
    assert (steps / "3").is_dir()


def test_a_run_with_a_damaged_recipe_goes_on_as_it_began(config, steps):
    for path in steps.glob("*/recipe/metadata"):
        recipe = json.loads(path.read_text())
        recipe["data"]["buckets"] = "mean"
        path.write_text(json.dumps(recipe))
    remove_digests(steps.parent)
    make_junk(steps / "3" / "recipe" / "metadata")
    assert as_begun(config).data.buckets == "mean"


def test_files_are_not_hashed_where_the_setting_says_so(config, steps, monkeypatch):
    flip(steps / "3" / "digests.json")
    monkeypatch.setenv("UNO_JAX_VERIFY", "never")
    assert restored(config) == 3


@pytest.mark.parametrize("damage", ["[" * 100_000, "no JSON"])
def test_a_damaged_record_of_times_is_named(config, steps, damage):
    """orbax reads it of every step when it opens a run."""
    record = steps / "2" / "_CHECKPOINT_METADATA"
    record.write_text(damage)
    with pytest.raises(RecipeError, match=re.escape(str(record)) + ".*delete this file"):
        open_checkpoints(config)
    record.unlink()
    with open_checkpoints(config) as checkpoints:
        assert sorted(checkpoints.all_steps()) == [1, 2, 3]


def test_a_torn_record_of_times_matters_in_a_finished_checkpoint_only(tmp_path):
    for name in ("6.orbax-checkpoint-tmp", "4"):
        (tmp_path / name).mkdir()
    (tmp_path / "6.orbax-checkpoint-tmp" / "_CHECKPOINT_METADATA").write_text("")
    check_times(tmp_path)
    (tmp_path / "4" / "_CHECKPOINT_METADATA").write_text("")
    with pytest.raises(RecipeError, match="It holds times only: delete this file"):
        check_times(tmp_path)


def test_what_a_killed_save_left_is_removed_when_a_run_is_opened(config, steps):
    left = steps / "4.orbax-checkpoint-tmp-12"
    (left / "state").mkdir(parents=True)
    with open_checkpoints(config) as checkpoints:
        assert not left.exists() and sorted(checkpoints.all_steps()) == [1, 2, 3]
