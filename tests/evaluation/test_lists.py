"""Lists in others' forms: what their entries ask for, what is wrong with them, and how they are evaluated."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.tiny_dreambench import make_modules, write_encoders
from tests.evaluation.tiny_lists import OMNICONTEXT, write_jsonl, write_parquet, write_pictures, xversebench
from tests.tiny_model import write_model
from uno_jax.data.entries import DataError
from uno_jax.evaluate import main
from uno_jax.evaluation.lists.forms import Asked, parse_entry
from uno_jax.evaluation.lists.read import read_list
from uno_jax.evaluation.lists.scores import summarise_kinds
from uno_jax.support.images import read_image

PAIR = xversebench(7, "A man rides a motorcycle.", object="a motorcycle", human="a man")
UNO = {"prompt": "a can in the snow", "image_paths": ["can/01.jpg", "dog/02.jpg"]}


@pytest.mark.parametrize(
    ("entry", "asked"),
    [
        (
            OMNICONTEXT[1],
            Asked(
                "Put the mug of image 1 into image 2.",
                ("images/0.jpg", "images/1.jpg"),
                "scene_object",
                "0001",
            ),
        ),
        (
            OMNICONTEXT[0] | {"instruction_language": "cn", "key": 5},
            Asked("A mug on a beach.", ("images/0.jpg",), "single_object (cn)", "5"),
        ),
        (
            {"key": "a", "task_type": "distinction", "instruction": "The dog.", "input_image": "a.jpg"},
            Asked("The dog.", ("a.jpg",), "distinction", "a"),
        ),
        (
            OMNICONTEXT[0]
            | {"input_images": [{"bytes": b"x", "path": None}, {"bytes": None, "path": "b.png"}]},
            Asked("A mug on a beach.", (b"x", "b.png"), "single_object", "0001"),
        ),
        (
            PAIR,
            Asked(
                "A man rides a motorcycle.",
                ("assets/XVerseBench/object/00.jpg", "assets/XVerseBench/human/00.jpg"),
                "human + object",
                "7",
                ("a motorcycle", "a man"),
            ),
        ),
        (UNO, Asked("a can in the snow", ("can/01.jpg", "dog/02.jpg"), "2 references", "3")),
        (
            UNO | {"category": "cans", "key": "x"},
            Asked("a can in the snow", ("can/01.jpg", "dog/02.jpg"), "cans", "x"),
        ),
    ],
)
def test_a_form_is_told_by_its_fields(entry, asked):
    assert parse_entry(entry, 3) == asked


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ([1], r"expected an object, got \[1\]"),
        ({"text": "x"}, r'expected the fields of OmniContext .* of XVerseBench .* UNO.* got \["text"\]'),
        (OMNICONTEXT[0] | {"instruction": " "}, '"instruction" must be a text, got " "'),
        (OMNICONTEXT[0] | {"task_type": None}, '"task_type" must be a text, got null'),
        (OMNICONTEXT[0] | {"key": 1.5}, '"key" must be a text, got 1.5'),
        (OMNICONTEXT[0] | {"input_images": []}, '"input_images" names no reference'),
        (OMNICONTEXT[0] | {"input_images": [{"path": ""}]}, r'pictures with bytes, got \["path"\]'),
        (OMNICONTEXT[0] | {"input_images": [b"x"]}, "list of paths or of pictures with bytes, got"),
        (
            {"key": "1", "instruction": "x", "input_images": ["a"], "task_typ": "y"},
            'unknown key "task_typ": did you mean "task_type"',
        ),
        (PAIR | {"modulation": []}, r'"modulation" must hold "src_inputs", the references, got \[\]'),
        (PAIR | {"modulation": [{"src_inputs": [{"image_path": "a"}]}]}, '"src_inputs" must hold .*caption'),
        (PAIR | {"index": None}, '"index" must be a text, got null'),
        ({"prompt": "x"}, '"image_paths" names no reference'),
        (UNO | {"seed": 1}, "seed cannot be set by entry here"),
        (UNO | {"category": 1}, '"category" must be a text, got 1'),
    ],
)
def test_what_is_wrong_with_an_entry_is_told(entry, message):
    with pytest.raises(DataError, match=message):
        parse_entry(entry, 0)


def test_pictures_within_parquet_files_are_written_once(tmp_path):
    listed, held = write_jsonl(tmp_path), write_parquet(tmp_path)
    named = read_list(listed, None, tmp_path / "unused")
    entries = read_list(held, None, tmp_path / "references")
    assert [entry._replace(references=()) for entry in entries] == [
        entry._replace(references=()) for entry in named
    ]
    assert [path.name for entry in entries for path in entry.references] == [
        "0_0.jpeg",
        "1_0.jpeg",
        "1_1.jpeg",
        "2_0.jpeg",
        "2_1.jpeg",
    ]
    for entry, other in zip(entries, named, strict=True):
        for path, original in zip(entry.references, other.references, strict=True):
            assert path.read_bytes() == original.read_bytes()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "references").iterdir()}
    assert read_list(held, None, tmp_path / "references") == entries
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert not (tmp_path / "unused").exists()


def test_a_key_is_used_once_for_each_kind(tmp_path):
    listed = write_jsonl(tmp_path)
    first, *rest = listed.read_text().splitlines(keepends=True)
    listed.write_text("".join([first, *rest, first]))
    with pytest.raises(DataError, match="its key .* is that of entry 0, of the same kind"):
        read_list(listed, None, tmp_path / "unused")


def test_files_that_are_no_lists_are_told(tmp_path):
    with pytest.raises(DataError, match=r"none must hold Parquet files .* got none"):
        (tmp_path / "none").mkdir()
        read_list(tmp_path / "none", None, tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR")
    with pytest.raises(DataError, match=r"a.parquet is (not a Parquet file|damaged): .*"):
        read_list(tmp_path / "a.parquet", None, tmp_path)
    folder = write_parquet(tmp_path)
    with (folder / "train-00001.parquet").open("r+b") as file:
        file.write(b"\0" * 100)
    with pytest.raises(DataError, match=r"train-00001.parquet is (not a Parquet file|damaged)"):
        read_list(folder, None, tmp_path)


def test_bad_entries_are_named_before_anything_is_loaded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("uno_jax.sampling.run.load_model", lambda *_: pytest.fail("weights were loaded"))
    (tmp_path / "list.json").write_text(json.dumps([PAIR, {"prompt": " ", "image_paths": ["a.jpg"]}]))
    line = ["--suite", "list", "--lists", str(tmp_path / "list.json"), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stop:
        main(line)
    told = capsys.readouterr().err
    assert stop.value.code == 2 and "list.json has 2 bad entries of 2:" in told
    assert f"entry 0: no reference {tmp_path}/assets/XVerseBench/object/00.jpg: pass --data" in told
    assert "entry 1: the prompt is empty" in told
    with pytest.raises(SystemExit):
        main([*line, "--data", str(tmp_path / "nowhere")])
    assert "--data is what the list's paths are relative to" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--suite", "list", "--out", str(tmp_path / "out")])
    assert "--lists" in capsys.readouterr().err


def evaluated(out, *words: object) -> dict:
    main(["--suite", "list", *map(str, words), "--out", str(out)])
    return json.loads((out / "scores.json").read_text())


def test_given_pictures_keep_the_kind_and_key_of_their_entries(tmp_path, capsys):
    write_pictures(*(tmp_path / f"given/{index}_{j}.png" for index in range(3) for j in range(2)))
    words = ("--lists", write_jsonl(tmp_path), "--score-only", tmp_path / "given", "--num-images", 2)
    record = evaluated(tmp_path / "out", *words)
    assert record["suite"] == "list" and record["scores"] == {} and record["encoders"] is None
    assert [(row["picture"], row["category"], row["key"]) for row in record["rows"]][1:4] == [
        ("0_1.png", "single_object", "0001"),
        ("1_0.png", "scene_object", "0001"),
        ("1_1.png", "scene_object", "0001"),
    ]
    assert record["rows"][2]["subjects"] == ["reference 1", "reference 2"]
    # Each given picture has a width of its own.
    assert record["resolution"] == "48x48 and 5 other sizes"
    said = capsys.readouterr().out
    assert "single_object (2)\nscene_object (4)\n" in said and "48x48" in said
    listed = json.loads((tmp_path / "out/prompts.json").read_text())
    assert listed[1] == {
        "prompt": "Put the mug of image 1 into image 2.",
        "image_paths": [str(tmp_path / "images/0.jpg"), str(tmp_path / "images/1.jpg")],
        "category": "scene_object",
        "key": "0001",
    }


def test_what_was_drawn_is_a_list_too(tmp_path):
    write_pictures(*(tmp_path / f"given/{index}_0.png" for index in range(3)))
    first = evaluated(tmp_path / "one", "--lists", write_jsonl(tmp_path), "--score-only", tmp_path / "given")
    again = ("--lists", tmp_path / "one/prompts.json", "--score-only", tmp_path / "given")
    assert evaluated(tmp_path / "two", *again)["rows"] == first["rows"]


def test_scores_are_means_over_the_entries_of_a_kind_then_over_kinds():
    values = {"0_0": ("a", 1.0), "1_0": ("b", 2.0), "1_1": ("b", 4.0), "2_0": ("b", 6.0), "3_0": ("c", None)}
    rows = [
        {"picture": f"{name}.png", "category": kind, "dino": value} for name, (kind, value) in values.items()
    ]
    found = summarise_kinds(rows, ("dino", "clip_t"))
    assert found.keys() == {"dino"} and found["dino"]["categories"] == {"a": 1, "b": 4.5}
    assert found["dino"]["mean"] == 2.75
    assert found["dino"]["interval"] == (2, 3.5)  # b's two entries are 3 and 6


@pytest.mark.slow
def test_a_copy_of_its_reference_has_a_cosine_of_one(tmp_path, capsys):
    encoders = write_encoders(tmp_path / "encoders", make_modules())
    listed = write_jsonl(tmp_path)
    (tmp_path / "given").mkdir()
    for index, name in enumerate(("0.jpg", "1.jpg", "1.jpg")):
        read_image(tmp_path / "images" / name).save(tmp_path / f"given/{index}_0.png")
    words = ("--lists", listed, "--score-only", tmp_path / "given", "--encoders", encoders)
    record = evaluated(tmp_path / "out", *words)
    rows = record["rows"]
    assert rows[0]["dino"] == pytest.approx(1, abs=1e-4) and rows[0]["clip_i"] == pytest.approx(1, abs=1e-4)
    assert rows[1]["dino"] == pytest.approx(rows[2]["dino"], abs=1e-4)  # the same references, in turn
    assert "copied_border" not in rows[0] and rows[1]["dino_worst"] < rows[1]["dino"]
    assert record["scores"]["dino"]["categories"]["scene_object"] == pytest.approx(
        np.mean([row["dino"] for row in rows[1:]])
    )
    assert re.search(r"mean of kinds  dino 0\.\d{4}  clip_i", capsys.readouterr().out)


@pytest.mark.slow
def test_an_interrupted_run_goes_on(tmp_path):
    model = write_model(tmp_path / "tiny")
    small = ("--steps", 1, "--ref-size", 32, "--width", 32, "--height", 32)
    entries = [OMNICONTEXT[0], OMNICONTEXT[0] | {"key": "another"}]
    words = ("--lists", write_parquet(tmp_path, entries), "--model", model, *small)
    record = evaluated(tmp_path / "out", *words)
    assert record["resolution"] == "32x32" and record["steps"] == 1
    content = (tmp_path / "out/scores.json").read_bytes()
    picture = (tmp_path / "out/1_0.png").read_bytes()
    assert Image.open(tmp_path / "out/1_0.png").size == (32, 32)
    (tmp_path / "out/1_0.png").unlink()
    kept = (tmp_path / "out/0_0.png").stat().st_mtime_ns
    evaluated(tmp_path / "out", *words)
    assert (tmp_path / "out/scores.json").read_bytes() == content
    assert (tmp_path / "out/1_0.png").read_bytes() == picture
    assert (tmp_path / "out/0_0.png").stat().st_mtime_ns == kept
