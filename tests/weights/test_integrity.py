"""The digests of a network's files: what is checked when, and what is told."""

import shutil

import numpy as np
import pytest

from tests.tiny_model import TINY, random_params, write_lora
from uno_jax.families.uno.config import UnoPE
from uno_jax.support.errors import CheckpointError
from uno_jax.weights import integrity
from uno_jax.weights.checkpoint import copy_network, read_config, restore_lora, restore_network, save_network
from uno_jax.weights.identity import fingerprint, weights_id


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("integrity")
    save_network(folder / "clip", TINY.clip, random_params(TINY.clip, 0))
    write_lora(folder / "lora", UnoPE())
    return folder


@pytest.fixture
def clip(stored, tmp_path, monkeypatch):
    """A copy to be damaged, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return shutil.copytree(stored / "clip", tmp_path / "clip")


def flip(path, count=16, seed=0):
    """Flips bytes, spread over the file."""
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    content[np.random.default_rng(seed).integers(len(content), size=count)] ^= 1
    path.write_bytes(content.tobytes())


def files_of(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("kind", "restore"), [("clip", restore_network), ("lora", restore_lora)])
def test_flipped_bytes_of_any_file_are_told_with_its_name(stored, tmp_path, kind, restore):
    names = files_of(stored / kind)
    assert len(names) > 5
    for number, name in enumerate(names):
        copy = shutil.copytree(stored / kind, tmp_path / str(number))
        flip(copy / name, seed=number)
        with pytest.raises(CheckpointError) as told:
            restore(copy)
        assert str(copy / name) in str(told.value)


def test_a_missing_file_is_named(clip):
    largest = max((clip / "params").rglob("*"), key=lambda path: path.stat().st_size)
    largest.unlink()
    with pytest.raises(CheckpointError, match=f"{largest} is missing"):
        restore_network(clip)


def test_whoever_reads_arrays_is_told(clip, tmp_path):
    flip(max((clip / "params").rglob("*"), key=lambda path: path.stat().st_size))
    read_config(clip)  # which needs no arrays
    with pytest.raises(CheckpointError, match="is damaged"):
        fingerprint(clip)
    with pytest.raises(CheckpointError, match="is damaged"):
        copy_network(clip, tmp_path / "copy")


def test_a_changed_config_is_told_and_may_be_meant(clip):
    config = clip / "config.json"
    config.write_text(config.read_text().replace('"clip"', '"clip" '))
    with pytest.raises(CheckpointError, match=r"config.json is damaged.* remove its digests.json"):
        read_config(clip)
    (clip / "digests.json").unlink()
    restore_network(clip)  # as one of before there were digests


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "digests.json is not readable JSON"),
        ("[" * 100_000, "digests.json is not readable JSON"),
        ("[]", "digests.json must hold an object"),
        ('{"format": 9, "files": {}}', "format 9; this program reads format 1"),
        ('{"format": 1, "files": {"../x": {"bytes": 1, "sha256": ""}}}', "outside of its folder"),
        ('{"format": 1, "files": {"/dev/zero": {"bytes": 1, "sha256": ""}}}', "outside of its folder"),
        ('{"format": 1, "files": {"config.json": 3}}', "'config.json' must hold an object"),
    ],
)
def test_a_damaged_manifest_is_told(clip, content, message):
    (clip / "digests.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        restore_network(clip)


def test_the_identity_of_weights_is_that_of_before_there_were_digests(clip):
    before = weights_id(clip)
    (clip / "digests.json").unlink()
    assert weights_id(clip) == before


@pytest.fixture
def hashed(monkeypatch):
    """The sizes of the sets of files that were hashed."""
    seen = []

    def check(folder, digests, fault, check=integrity.check_digests):
        if "config.json" not in digests or len(digests) > 1:  # not that of the config alone
            seen.append(len(digests))
        check(folder, digests, fault)

    monkeypatch.setattr(integrity, "check_digests", check)
    return seen


def test_a_large_network_is_hashed_once_and_after_a_change(clip, hashed, monkeypatch):
    monkeypatch.setattr(integrity, "LARGE", 1000)
    restore_network(clip)
    restore_network(clip)
    assert len(hashed) == 1
    moved = clip.rename(clip.with_name("moved"))
    restore_network(moved)
    assert len(hashed) == 2
    flip(max((moved / "params").rglob("*"), key=lambda path: path.stat().st_size))
    for _ in range(2):  # what failed is not remembered
        with pytest.raises(CheckpointError, match="is damaged"):
            restore_network(moved)


@pytest.mark.parametrize(("mode", "times"), [("auto", 1), ("", 1), ("always", 2), ("never", 0)])
def test_the_setting_says_when_files_are_hashed(clip, hashed, monkeypatch, mode, times):
    monkeypatch.setattr(integrity, "LARGE", 1000)
    monkeypatch.setenv(integrity.SETTING, mode)
    restore_network(clip)
    restore_network(clip)
    assert len(hashed) == times


def test_an_unknown_setting_is_refused(clip, monkeypatch):
    monkeypatch.setenv(integrity.SETTING, "yes")
    with pytest.raises(CheckpointError, match="UNO_JAX_VERIFY must be one of auto, always, never, got 'yes'"):
        restore_network(clip)


def test_a_cache_that_cannot_be_written_is_done_without(clip, hashed, monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setattr(integrity, "LARGE", 1000)
    restore_network(clip)
    restore_network(clip)
    assert len(hashed) == 2
