"""`python -m uno_jax.data`: what check reports and writes, and that packed shards give the same batches."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.lists import write_json, write_list, write_picture
from tests.tiny_model import MAKE_BATCH
from uno_jax.data.__main__ import main
from uno_jax.data.batches import make_dataset
from uno_jax.data.config import DataConfig
from uno_jax.data.records import read_list


def run(*args) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    return stopped.value.code


def test_check_counts_and_names_every_bad_record(tmp_path, capsys):
    path = write_list(tmp_path, 7)
    entries = json.loads(path.read_text())
    entries[0]["prompt"] = ""
    (tmp_path / "t1.png").unlink()
    write_picture(tmp_path / "t2.png", 2, (300, 300))
    cut = (tmp_path / "t2.png").read_bytes()[:-40]
    (tmp_path / "t2.png").write_bytes(cut)
    write_picture(tmp_path / "r3.png", 3, (400, 10))
    write_picture(tmp_path / "t4.png", 4, (96, 32))
    write_picture(tmp_path / "t5.png", 5, (7100, 7100))
    sized = tmp_path / "sized.json"
    assert run("check", write_json(path, [*entries, 3]), "--write", sized) == 1
    out = capsys.readouterr().out
    assert "8 entries: 2 good, 6 bad" in out and "references 1: 2 records" in out
    assert "bucket 256x768 (height x width at 512): 1 record" in out
    reasons = ["prompt is empty", "no such picture", "truncated", "thinner than 1:16", "", "megapixels"]
    for index, reason in [*enumerate(reasons), (7, "expected an object")]:
        assert not reason or any(f"record {index}: " in line and reason in line for line in out.splitlines())
    records = read_list(sized)
    assert records.ratios[:, 0].tolist() == [1 / 3, 1.0] and records[0].target == f"{tmp_path}/t4.png"
    assert run("check", sized) == 0
    assert run("check", tmp_path / "none.json") == 2
    assert "error: no list of records" in capsys.readouterr().err


def test_shards_hold_the_same_records(tmp_path):
    path = write_list(tmp_path, 5, refs=2)
    assert run("pack", path, "--out", tmp_path / "packed", "--per-shard", 2) == 0
    packed = tmp_path / "packed"
    assert sorted(file.name for file in packed.iterdir()) == [
        *("00000.tar", "00001.tar", "00002.tar", "records.json")
    ]
    with tarfile.open(packed / "00000.tar") as tar:
        assert tar.getnames()[:4] == [
            f"000000000.{end}" for end in ("json", "target.png", "ref1.png", "ref2.png")
        ]
    plain, sharded = (
        make_dataset(
            read_list(source),
            DataConfig(path=str(source), resolution=32, ref_resolution=32, threads=1),
            5,
            MAKE_BATCH,
            0,
        )
        for source in (path, packed / "records.json")
    )
    for one, other in zip(next(plain), next(sharded), strict=True):
        np.testing.assert_array_equal(one, other)
    assert run("pack", path, "--out", packed) == 2


def test_shards_and_sized_lists_keep_scores(tmp_path):
    path = write_list(tmp_path, 3)
    entries = json.loads(path.read_text())
    for entry, score in zip(entries, (3.5, 2, None), strict=True):
        entry |= {} if score is None else {"score": score}
    write_json(path, entries)
    assert run("check", path, "--write", tmp_path / "sized.json") == 0
    for source in (path, tmp_path / "sized.json"):
        assert run("pack", source, "--out", tmp_path / source.stem) == 0
        packed = json.loads((tmp_path / source.stem / "records.json").read_text())
        assert [entry.get("score") for entry in packed] == [3.5, 2, None]


def test_a_record_that_goes_bad_leaves_nothing_in_the_shard(tmp_path, capsys):
    path = write_list(tmp_path, 3)
    Path(tmp_path / "r1.png").write_bytes(b"no picture")
    assert run("pack", path, "--out", tmp_path / "packed", "--max-bad-share", 0.4) == 0
    assert "record 1: " in capsys.readouterr().out
    assert [record.prompt for record in read_list(tmp_path / "packed" / "records.json")] == [
        "number 0",
        "number 2",
    ]


@pytest.mark.parametrize(("share", "bad"), [(0.01, 1), (0.5, 3), (1.0, 4)])
def test_too_many_unreadable_pictures_are_packed_into_nothing(tmp_path, capsys, share, bad):
    path = write_list(tmp_path, 4)
    for number in range(4 - bad, 4):  # the last ones, when shards are written already
        Path(tmp_path / f"r{number}.png").write_bytes(b"no picture")
    out = tmp_path / "new" / "packed"
    assert run("pack", path, "--out", out, "--per-shard", 1, "--max-bad-share", share) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"error: {bad} of 4 records cannot be read") and f"r{4 - bad}.png" in told
    assert not out.parent.exists()


def test_what_check_calls_good_is_what_training_reads(tmp_path, capsys):
    """Pictures with odd metadata, of every mode; and those whose pixels alone are wrong."""
    entries = []
    for number, mode in enumerate(("RGB", "L", "P", "1", "CMYK", "I;16", "LA", "F", "I")):
        picture = Image.new("L", (48, 32), number)
        name = f"{number}.{'tiff' if mode in ('CMYK', 'F', 'I') else 'png'}"
        if mode in ("I;16", "F", "I"):
            picture = Image.fromarray(
                np.full((32, 48), -1).astype({"I;16": "u2", "F": "f4", "I": "i4"}[mode])
            )
        odd = {"exif": b"Exif\0\0junk"} if name.endswith("png") else {}
        (picture if mode == "I;16" else picture.convert(mode)).save(tmp_path / name, **odd)
        entries.append({"prompt": mode, "image_tgt_path": name})
    path = write_json(tmp_path / "list.json", entries)
    assert run("check", path, "--data.resolution", 64) == 1
    out = capsys.readouterr().out
    assert "9 entries: 7 good, 2 bad" in out and "(height x width at 64): 7 records" in out
    assert "record 7: " in out and "record 8: " in out
    config = DataConfig(path=str(path), resolution=64, threads=1, max_bad_share=0.5)
    batches = make_dataset(read_list(path), config, 3, MAKE_BATCH, 0)
    for _ in range(6):
        next(batches)
    assert sorted(batches.bad) == [f"{path} record 7", f"{path} record 8"]
    assert run("check", path, "--data.resolution", 16) == 2
    assert "--data.resolution must be at least 32" in capsys.readouterr().err
