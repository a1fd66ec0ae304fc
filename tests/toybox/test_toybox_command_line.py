"""`python -m uno_jax.toybox`: the files it writes, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uno_jax.data.records import read_list
from uno_jax.toybox import compose, draw, load_subjects, pair
from uno_jax.toybox.__main__ import main


def make(out: Path, *arguments: str) -> list[dict]:
    main(["--out", str(out), "--count", "3", "--size", "32", *arguments])
    return json.loads((out / "pairs.json").read_text(encoding="utf-8"))


def test_pairs_are_what_the_api_makes(tmp_path):
    entries = make(tmp_path / "pairs", "--references", "2", "--split", "val", "--seed", "9")
    sample = pair(np.random.default_rng([9, 1]), load_subjects(split="val"), 32, 2)
    entry = entries[1]
    assert entry["prompt"] == sample.prompt
    pictures = [
        Image.open(tmp_path / "pairs" / name) for name in (entry["image_tgt_path"], *entry["image_paths"])
    ]
    for picture, pixels in zip(pictures, (sample.target, *sample.references), strict=True):
        np.testing.assert_array_equal(np.asarray(picture), pixels)
    labels = json.loads((tmp_path / "pairs" / "labels.json").read_text())
    assert labels[1]["subjects"] == list(sample.subjects)
    assert labels[1]["scenes"] == list(sample.scenes)


def test_cropping_changes_the_second_reference_alone(tmp_path):
    drawn, cropped = tmp_path / "drawn", tmp_path / "cropped"
    two = ("--references", "2")
    assert make(drawn, *two) == make(cropped, *two, "--crop-second")
    for path in (drawn / "images").iterdir():
        same = path.read_bytes() == (cropped / "images" / path.name).read_bytes()
        assert same != path.name.endswith("ref2.png")


@pytest.mark.parametrize("kind", ["pairs", "diptychs"])
def test_what_is_alike_changes_the_pictures(tmp_path, kind):
    made = set()
    for alike in ("subject", "place", "picture"):
        make(tmp_path / alike, "--kind", kind, "--alike", alike)
        made.add(b"".join(path.read_bytes() for path in sorted((tmp_path / alike / "images").iterdir())))
    assert len(made) == 3


@pytest.mark.parametrize(
    ("kind", "width", "references"), [("pairs", 32, 1), ("text-image", 32, 0), ("diptychs", 64, 0)]
)
def test_training_reads_every_kind(tmp_path, kind, width, references):
    make(tmp_path / "made", "--kind", kind)
    records = read_list(tmp_path / "made" / "pairs.json")
    assert len(records) == 3
    for record in records:
        assert Image.open(record.target).size == (width, 32)
        assert len(record.refs) == references


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "--count must be at least 1, got 0"),
        (["--size", "8"], "--size must be at least 32, got 8"),
        (["--kind", "diptychs", "--references", "2"], "--references is for pairs; diptychs have none"),
        (["--references", "2", "--alike", "picture"], "--alike picture is for one reference"),
        (["--crop-second"], "--crop-second is for --references 2"),
        (["--kind", "text-image", "--alike", "place"], "--alike is for pairs and diptychs"),
        (["--subjects", "nowhere"], "nowhere/manifest.json not found"),
    ],
)
def test_refused_arguments_write_nothing(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        main(["--out", str(tmp_path / "out"), *arguments])
    assert f"error: {message}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_directory_with_files_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(SystemExit, match="2"):
        make(tmp_path)
    assert f"error: --out {tmp_path} is not empty" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_the_list_is_written_last(tmp_path, monkeypatch):
    """An interrupted run leaves pictures, but no list that training could read."""
    saved: list[str] = []

    def save_until_full(image: Image.Image, path: Path, **options: object) -> None:
        saved.append(path.name)
        if len(saved) > 3:
            raise OSError(28, "No space left on device")
        path.touch()

    monkeypatch.setattr(Image.Image, "save", save_until_full)
    with pytest.raises(SystemExit, match="2"):
        make(tmp_path / "out")
    assert not (tmp_path / "out" / "pairs.json").exists()
    assert saved


def test_a_list_of_subjects_and_scenes_is_drawn(tmp_path, capsys):
    (tmp_path / "list.json").write_text(
        json.dumps(
            [
                {"subjects": ["tiger face"], "scene": "snow", "seed": 3},
                {"subjects": ["tiger face"], "scene": "in the snow", "seed": 3},
                {"subjects": ["tiger face", "tomato"], "scene": "in the snow", "seed": 3},
            ]
        )
    )
    draw.main(["--jobs", str(tmp_path / "list.json"), "--out", str(tmp_path / "out"), "--size", "32"])
    pictures = [np.asarray(Image.open(tmp_path / "out" / f"{i}.png")) for i in range(3)]
    subjects = {each.name: each for each in load_subjects(split="train")}
    for picture, names in ((pictures[0], ["tiger face"]), (pictures[2], ["tiger face", "tomato"])):
        drawn = compose(np.random.default_rng(3), [subjects[name] for name in names], "snow", 32)
        np.testing.assert_array_equal(picture, drawn.image)
    np.testing.assert_array_equal(pictures[0], pictures[1])


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("[{", "is not readable JSON"),
        ("{}", "expected a list of subjects, got dict"),
        ('[{"subjects": ["tiger face"]}]', "entry 0: expected"),
        ('[{"subjects": "tomato", "scene": "snow", "seed": 0}]', 'a list of one or two names, got "tomato"'),
        ('[{"subjects": [["tomato"]], "scene": "snow", "seed": 0}]', "no subject ['tomato'] among the 604"),
        ('[{"subjects": ["tomato"], "scene": {}, "seed": 0}]', "no scene {}; there are grass"),
        ('[{"subjects": ["unicorn 9"], "scene": "snow", "seed": 0}]', "no subject 'unicorn 9' among the 604"),
        ('[{"subjects": ["tiger face"], "scene": "hell", "seed": 0}]', "no scene 'hell'; there are grass"),
        (
            '[{"subjects": ["tiger face"], "scene": "snow", "seed": -1}]',
            "a whole number of 0 or more, got -1",
        ),
    ],
)
def test_a_list_that_cannot_be_drawn(tmp_path, capsys, entries, message):
    (tmp_path / "list.json").write_text(entries)
    with pytest.raises(SystemExit, match="2"):
        draw.main(["--jobs", str(tmp_path / "list.json"), "--out", str(tmp_path / "out")])
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "message"), [(["--size", "0"], "--size must be at least 32"), ([], "none.json")]
)
def test_a_size_or_a_list_that_cannot_be(tmp_path, capsys, line, message):
    with pytest.raises(SystemExit, match="2"):
        draw.main(["--jobs", str(tmp_path / "none.json"), "--out", str(tmp_path / "out"), *line])
    assert message in capsys.readouterr().err
