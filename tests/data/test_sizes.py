"""Sizes that a list does not say: read once, kept while the files stay, and fixed for a run."""

import json
import os

import numpy as np
import pytest

from tests.lists import write_json, write_picture
from tests.tiny_model import MAKE_BATCH
from uno_jax.data import sizes as module
from uno_jax.data.batches import make_dataset
from uno_jax.data.config import DataConfig, SourceConfig
from uno_jax.data.entries import DataError
from uno_jax.data.records import Records, each_picture, read_list, read_source

SIZES = [(96, 32), (32, 96), (32, 32)]


def sized_by(records: Records, workdir, *share: float) -> Records:
    """What a run in `workdir` would begin with; it begins."""
    sized = module.with_sizes(records, workdir, *share)
    module.keep_sizes(sized)
    return sized.records


@pytest.fixture
def listed(tmp_path):
    """Nine records of three shapes in turn, with a reference of the next shape."""
    (tmp_path / "lists").mkdir()
    entries = [
        {
            "prompt": f"number {i}",
            "image_tgt_path": write_picture(tmp_path / "lists" / f"t{i}.png", i, SIZES[i % 3]),
            "image_paths": [write_picture(tmp_path / "lists" / f"r{i}.png", 100 + i, SIZES[(i + 1) % 3])],
        }
        for i in range(9)
    ]
    return write_json(tmp_path / "lists" / "list.json", entries)


@pytest.fixture
def opened(monkeypatch):
    """The names of the pictures whose headers are read."""
    names = []

    def reading(path, read=module.picture_size):
        names.append(os.path.basename(path))
        return read(path)

    monkeypatch.setattr(module, "picture_size", reading)
    return names


def test_batches_hold_targets_of_one_shape(listed, tmp_path):
    records = sized_by(read_list(listed), tmp_path / "run")
    assert records.ratios[:, :2].tolist() == [
        [SIZES[j % 3][1] / SIZES[j % 3][0] for j in (i, i + 1)] for i in range(9)
    ]
    batches = make_dataset(records, DataConfig(resolution=64, ref_resolution=32, threads=1), 3, MAKE_BATCH, 0)
    shapes = {next(batches).target.shape[1:3] for _ in range(6)}
    assert shapes == {(32, 96), (96, 32), (64, 64)}
    assert len(each_picture(records)) == 18 and not np.isnan(each_picture(records).ratios[:, 0]).any()


def test_headers_are_read_once_for_all_runs_and_anew_where_a_file_changed(listed, tmp_path, opened):
    first = sized_by(read_list(listed), tmp_path / "one")
    assert len(opened) == 18
    assert sized_by(read_list(listed), tmp_path / "two").fingerprint() == first.fingerprint()
    assert len(opened) == 18
    write_picture(listed.with_name("t4.png"), 4, (96, 32))
    os.utime(listed.with_name("t5.png"), ns=(1, 1))
    entries = json.loads(listed.read_text())
    entries.append({**entries[0], "image_tgt_path": write_picture(listed.with_name("t9.png"), 9)})
    write_json(listed, entries)
    opened.clear()
    again = sized_by(read_list(listed), tmp_path / "three")
    assert sorted(opened) == ["t4.png", "t5.png", "t9.png"]
    assert again.ratios[4, 0] == 1 / 3 and again.ratios[9, 0] == 1


def test_a_run_goes_on_with_the_sizes_that_it_began_with(listed, tmp_path, opened):
    began = sized_by(read_list(listed), tmp_path / "run", 0.2)
    write_picture(listed.with_name("t4.png"), 4, (96, 32))
    listed.with_name("t5.png").write_bytes(b"no picture")
    opened.clear()
    assert sized_by(read_list(listed), tmp_path / "run").fingerprint() == began.fingerprint() and not opened
    other = sized_by(read_list(listed), tmp_path / "other", 0.2)
    assert other.fingerprint() != began.fingerprint() and len(other) == 8


@pytest.mark.parametrize("damage", [b"", b"junk", b"PK\3\4 cut", None])
def test_damaged_or_missing_caches_are_made_anew(listed, tmp_path, opened, damage):
    whole = sized_by(read_list(listed), tmp_path / "run")
    caches = [listed.with_name(".list.json.sizes.npz"), *(tmp_path / "run").iterdir()]
    assert len(caches) == 2 and all(cache.is_file() for cache in caches)
    for cache in caches:
        cache.write_bytes(cache.read_bytes()[:-30] if damage is None else damage)
    opened.clear()
    assert sized_by(read_list(listed), tmp_path / "run").fingerprint() == whole.fingerprint()
    assert len(opened) == 18
    assert sized_by(read_list(listed), tmp_path / "new").fingerprint() == whole.fingerprint()
    assert len(opened) == 18


def test_folders_that_cannot_be_written_end_nothing(listed, tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(module, "atomic_write", refuse)
    assert not np.isnan(sized_by(read_list(listed), tmp_path / "run").ratios[:, :2]).any()
    assert not (tmp_path / "run").exists()


def test_unreadable_records_are_left_out_told_and_counted(listed, tmp_path, capsys):
    listed.with_name("r3.png").write_bytes(b"no picture")
    write_picture(listed.with_name("t7.png"), 7, (400, 10))
    with pytest.raises(
        DataError, match="2 bad records of 9: record 3: .*r3.png: not a picture.*record 7: .*thinner"
    ):
        sized_by(read_list(listed), tmp_path / "run")
    records = sized_by(read_list(listed), tmp_path / "run", 0.3)
    assert records.entry.tolist() == [0, 1, 2, 4, 5, 6, 8]
    assert [record.prompt for record in records] == [f"number {i}" for i in records.entry]
    assert f"left out {listed} record 3: " in capsys.readouterr().out
    for number in range(9):
        listed.with_name(f"t{number}.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="no record of .*list.json can be read"):
        sized_by(read_list(listed), tmp_path / "none", 1.0)


def test_lists_that_say_sizes_or_have_one_for_all_are_not_read(listed, tmp_path, opened):
    entries = json.loads(listed.read_text())
    said = [{**entry, "image_sizes": [[64, 32], [32, 32]]} for entry in entries]
    records = read_list(write_json(listed.with_name("said.json"), said))
    assert sized_by(records, tmp_path / "run") is records
    records = read_source(SourceConfig(str(listed), size=(64, 128)))
    assert sized_by(records, tmp_path / "run") is records
    assert not opened and not (tmp_path / "run").exists()
