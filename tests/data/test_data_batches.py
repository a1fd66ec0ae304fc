"""Batches: their order, groups, shares, state, replacements of bad records, and when a run stops."""

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest

from tests.lists import write_json, write_list, write_picture
from tests.tiny_model import MAKE_BATCH
from uno_jax.data.batches import make_dataset
from uno_jax.data.config import DataConfig, SourceConfig
from uno_jax.data.entries import DataError
from uno_jax.data.records import read_records


def config_of(path, **changes) -> DataConfig:
    changes = {"resolution": 64, "ref_resolution": 32, "text_dropout": 0.0, "threads": 1, **changes}
    return DataConfig(path=str(path), **changes)


def batches_of(config, batch_size=2, seed=0, **process):
    return make_dataset(read_records(config), config, batch_size, MAKE_BATCH, seed, **process)


def numbers(array) -> list[int]:
    """The grey values that tell which pictures these are."""
    return np.rint((array[:, 0, 0, 0] + 1) * 127.5).astype(int).tolist()


def taken(batches, count):
    return [numbers(next(batches).target) for _ in range(count)]


@pytest.fixture
def listed(tmp_path):
    return write_list(tmp_path, 6)


def test_every_epoch_is_whole_and_another_order_and_pairs_stay_together(listed):
    batches = batches_of(config_of(listed))
    read = [next(batches) for _ in range(6)]
    epochs = [sum((numbers(b.target) for b in read[i : i + 3]), []) for i in (0, 3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(6)) and epochs[0] != epochs[1]
    for batch in read:
        assert numbers(batch.refs[0]) == [100 + n for n in numbers(batch.target)]
        assert batch.target.shape == (2, 64, 64, 3) and batch.refs[0].shape == (2, 32, 32, 3)
    assert taken(batches_of(config_of(listed)), 6) == [numbers(b.target) for b in read]
    assert taken(batches_of(config_of(listed), seed=1), 6) != [numbers(b.target) for b in read]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_state_continues_exactly_whatever_the_workers(listed, workers):
    whole = batches_of(config_of(listed, text_dropout=0.5))
    before, state = taken(whole, 3), json.loads(json.dumps(whole.get_state()))
    resumed = batches_of(config_of(listed, text_dropout=0.5, workers=workers))
    resumed.set_state(state)
    for _ in range(3):
        for a, b in zip((w := next(whole)), (r := next(resumed)), strict=True):
            np.testing.assert_array_equal(a, b)
        assert numbers(w.target) == numbers(r.target)
    assert len(before) == 3 and resumed.get_state() == whole.get_state()


def test_a_state_of_other_records_is_refused(listed):
    state = batches_of(config_of(listed)).get_state()
    other = batches_of(config_of(write_list(listed.parent, 5)))
    with pytest.raises(DataError, match="not those of the checkpoint"):
        other.set_state(state)


def test_processes_share_out_what_one_process_reads(tmp_path):
    sizes = [(32, 32), (96, 32), (64, 32), (32, 96), (40, 32), (32, 33), (50, 30), (32, 64)]
    entries = [
        {"prompt": str(i), "image_tgt_path": write_picture(tmp_path / f"{i}.png", i, size)}
        for i, size in enumerate(sizes)
    ]
    config = config_of(write_json(tmp_path / "list.json", entries), text_dropout=0.5)
    whole = batches_of(config, 4)
    shares = [batches_of(config, 4, share=(i, 2)) for i in range(2)]
    for _ in range(4):
        parts = [next(share) for share in shares]
        for one, *both in zip(next(whole), *parts, strict=True):
            if isinstance(one, np.ndarray):
                np.testing.assert_array_equal(one, np.concatenate(both))
        assert len(whole.names) == 4 and {share.names for share in shares} == {whole.names}
    with pytest.raises(DataError, match="does not divide over 3"):
        batches_of(config, 4, share=(0, 3))


def test_batches_have_one_bucket_and_one_number_of_references(tmp_path):
    sizes = {0: (96, 32), 1: (32, 96), 2: (32, 32)}
    entries = []
    for i in range(12):
        name = write_picture(tmp_path / f"{i}.png", i, sizes[i % 3])
        refs = [name] * (1 + i % 4)
        entry = {"prompt": "a", "image_tgt_path": name, "image_paths": refs}
        entries.append({**entry, "image_sizes": [sizes[i % 3]] * (1 + len(refs))})
    batches = batches_of(config_of(write_json(tmp_path / "list.json", entries)))
    shapes = {0: (32, 96), 1: (96, 32), 2: (64, 64)}
    seen = Counter()
    for _ in range(24):
        batch = next(batches)
        (refs,) = {1 + n % 4 for n in numbers(batch.target)}
        (kind,) = {n % 3 for n in numbers(batch.target)}
        assert len(batch.refs) == refs and batch.target.shape[1:3] == shapes[kind]
        seen[refs, kind] += 1
    assert set(seen.values()) == {2} and len(seen) == 12


def test_sources_are_mixed_by_weight(tmp_path):
    (tmp_path / "b").mkdir()
    one, two = write_list(tmp_path, 8), write_list(tmp_path / "b", 2, refs=2)
    sources = (SourceConfig(str(one), weight=1.0), SourceConfig(str(two), weight=3.0))
    batches = batches_of(dataclasses.replace(config_of(""), sources=sources))
    counts = Counter(len(next(batches).refs) for _ in range(40))
    assert counts == {1: 10, 2: 30}


def test_prompts_are_dropped_in_their_share(listed):
    def tokens(dropout):
        batches = batches_of(config_of(listed, text_dropout=dropout), 6)
        return np.concatenate([next(batches).vec for _ in range(20)])

    empty = tokens(1.0)
    assert (empty == empty[0]).all()
    kept = (tokens(0.25) != empty[0]).any(axis=1).mean()
    assert 0.6 < kept < 0.9 and (tokens(0.0) != empty[0]).any(axis=1).all()


@pytest.mark.parametrize("damage", ["missing", "truncated", "thin"])
def test_a_bad_record_is_replaced_counted_and_named_once(listed, capsys, damage):
    path = listed.parent / "t2.png"
    config = config_of(listed, max_bad_share=0.5)
    records = read_records(config)
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        write_picture(path, 2, (300, 300))
        path.write_bytes(path.read_bytes()[:-40])
    else:
        write_picture(path, 2, (400, 10))
    batches = make_dataset(records, config, 2, MAKE_BATCH, 0)
    epoch = sum(taken(batches, 6), [])
    assert batches.names == tuple(records.name(i) for i in epoch[-2:])
    assert sorted(epoch) == sorted([0, 1, 3, 3, 4, 5] * 2)
    assert (batches.read, list(batches.bad)) == (12, [records.name(2)])
    assert capsys.readouterr().out.count(f"left out {records.name(2)}") == 1


def test_too_many_bad_records_stop_the_run_with_reasons(listed):
    config = config_of(listed)
    records = read_records(config)
    (listed.parent / "t2.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1 of 6 records read were bad.*t2.png: not a picture"):
        taken(make_dataset(records, config, 2, MAKE_BATCH, 0), 3)
    for i in range(6):
        (listed.parent / f"r{i}.png").unlink(missing_ok=True)
    with pytest.raises(DataError, match="6 bad records in a row"):
        taken(make_dataset(records, config, 2, MAKE_BATCH, 0), 1)


def damage(path) -> None:
    """Cuts a picture so that its header is still good."""
    path.write_bytes(path.read_bytes()[:-20])


def test_a_bad_record_that_is_met_again_counts_once_also_after_resuming(tmp_path):
    path = write_list(tmp_path, 150)
    damage(tmp_path / "t70.png")
    config = config_of(path, resolution=32)
    batches, rounds = batches_of(config, 10), 150 // 10
    taken(batches, 3 * rounds)
    assert list(batches.bad) == [f"{path} record 70"] and batches.read == 450
    resumed = batches_of(config, 10)
    resumed.set_state(json.loads(json.dumps(batches.get_state())))
    assert taken(resumed, rounds) == taken(batches, rounds) and resumed.bad == batches.bad
    damage(tmp_path / "t71.png")
    with pytest.raises(DataError, match="2 of 150 records read were bad, more than max_bad_share 0.01"):
        taken(resumed, rounds)


def test_a_bad_record_alone_in_its_group_is_left_out(tmp_path):
    entries = json.loads(write_list(tmp_path, 8).read_text())
    entries[3]["image_paths"] *= 2
    damage(tmp_path / "t3.png")
    config = config_of(write_json(tmp_path / "list.json", entries), max_bad_share=0.2)
    epochs = taken(batches_of(config), 12)
    assert 3 not in sum(epochs, []) and {*sum(epochs, [])} == {0, 1, 2, 4, 5, 6, 7}
    batches, resumed = batches_of(config), batches_of(config)
    taken(batches, 5)
    resumed.set_state(batches.get_state())
    assert taken(batches, 7) == taken(resumed, 7) == epochs[5:]
    assert list(batches.bad) == [f"{config.path} record 3"]
    for number in range(8):
        damage(tmp_path / f"t{number}.png")
    with pytest.raises(DataError, match="8 bad records in a row: .*record 0: .*t0.png: cannot be read"):
        taken(batches_of(dataclasses.replace(config, max_bad_share=1.0)), 1)
