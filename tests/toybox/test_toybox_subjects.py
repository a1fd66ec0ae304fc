"""Folders of subjects: what is loaded from a valid one, and the errors for an invalid one."""

import json
from pathlib import Path

import pytest
from PIL import Image

from uno_jax.toybox import SubjectError, load_subjects


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two subjects, a red box for training and a wider one for validation."""
    for name, size in (("box", (10, 10)), ("bar", (30, 10))):
        picture = Image.new("RGBA", (40, 40))
        picture.paste((255, 0, 0, 255), (5, 5, 5 + size[0], 5 + size[1]))
        picture.save(tmp_path / f"{name}.png")
    entries = [
        {"name": "box", "file": "box.png", "group": "Objects", "split": "train"},
        {"name": "bar", "file": "bar.png", "group": "Objects", "split": "val"},
    ]
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    return tmp_path


def change(folder: Path, **values: object) -> None:
    """Changes the first entry of the manifest."""
    entries = json.loads((folder / "manifest.json").read_text())
    entries[0].update(values)
    (folder / "manifest.json").write_text(json.dumps(entries))


def test_shipped_splits_share_no_subject():
    train, val = load_subjects(split="train"), load_subjects(split="val")
    assert (len(train), len(val)) == (544, 60)
    assert not {subject.name for subject in train} & {subject.name for subject in val}


def test_another_folder_is_cropped_to_its_content(folder):
    (bar,) = load_subjects(folder, "val")
    assert (bar.name, bar.group, bar.split, bar.size) == ("bar", "Objects", "val", (30, 10))


def test_large_cutouts_are_shrunk_and_halved(folder):
    Image.new("RGBA", (2000, 1000), (0, 0, 255, 255)).save(folder / "box.png")
    (box,) = load_subjects(folder)
    assert [level.size for level in box.levels[:3]] == [(512, 256), (256, 128), (128, 64)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"split": "test"}, r"entry 0: unknown split 'test', expected one of train, val"),
        ({"name": "bar"}, r"entry 1: the name 'bar' appears twice"),
        ({"name": ""}, r"entry 0: 'name' must be a non-empty string"),
        ({"file": 3}, r"entry 0: 'file' must be a non-empty string, got 3"),
        ({"split": "val"}, r"has no subjects of split 'train'"),
    ],
)
def test_bad_entries(folder, values, message):
    change(folder, **values)
    with pytest.raises(SubjectError, match=message):
        load_subjects(folder)


def test_unknown_split_asked_for(folder):
    with pytest.raises(SubjectError, match="unknown split 'test'"):
        load_subjects(folder, "test")


def test_missing_files(folder, tmp_path_factory):
    with pytest.raises(FileNotFoundError, match=r"manifest\.json not found"):
        load_subjects(tmp_path_factory.mktemp("empty"))
    (folder / "box.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"names box\.png, not found under"):
        load_subjects(folder)


@pytest.mark.parametrize("text", ["{", '{"name": "box"}', "[1]"])
def test_a_manifest_that_is_no_list_of_subjects(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(SubjectError, match="not readable JSON|expected a list|expected an object"):
        load_subjects(folder)


def test_pictures_that_are_no_cutouts(folder):
    Image.new("RGB", (40, 40)).save(folder / "box.png")
    with pytest.raises(SubjectError, match=r"box\.png: RGB has no alpha channel"):
        load_subjects(folder)
    Image.new("RGBA", (40, 40)).save(folder / "box.png")
    with pytest.raises(SubjectError, match="fully transparent"):
        load_subjects(folder)
    (folder / "box.png").write_bytes(b"nothing")
    with pytest.raises(SubjectError, match="box.png: not a picture"):
        load_subjects(folder)
