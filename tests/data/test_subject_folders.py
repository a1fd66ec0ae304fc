"""A folder of pictures with captions beside them, read as a list."""

import pytest

from tests.lists import write_picture
from uno_jax.data.__main__ import main
from uno_jax.data.entries import DataError
from uno_jax.data.records import read_list
from uno_jax.data.subject_folders import MAX_CAPTION, PARTNERS


def write_subject(folder, count, captions):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        write_picture(folder / f"{number:02}.png", number)
    for number, caption in captions.items():
        (folder / f"{number:02}.txt").write_text(caption, encoding="utf-8")
    return folder


def test_each_captioned_picture_is_drawn_after_the_others_of_its_subject(tmp_path):
    write_subject(tmp_path / "my cup", 3, {0: "a cup on\n a table ", 2: "\ufeffa cup in the sun"})
    write_subject(tmp_path / "dog", 2, {1: "ein Hündchen"})
    records = read_list(tmp_path)
    dog, cup = f"{tmp_path}/dog", f"{tmp_path}/my cup"
    assert [record[:3] for record in records] == [
        ("ein Hündchen", (f"{dog}/00.png",), f"{dog}/01.png"),
        ("a cup on a table", (f"{cup}/01.png",), f"{cup}/00.png"),
        ("a cup on a table", (f"{cup}/02.png",), f"{cup}/00.png"),
        ("a cup in the sun", (f"{cup}/00.png",), f"{cup}/02.png"),
        ("a cup in the sun", (f"{cup}/01.png",), f"{cup}/02.png"),
    ]


def test_pictures_right_in_the_folder_are_one_subject_of_bounded_pairs(tmp_path):
    count = PARTNERS + 4
    write_subject(tmp_path, count, {number: "a cup" for number in range(count)})
    records = read_list(tmp_path)
    assert len(records) == count * PARTNERS
    assert all(record.target not in record.refs for record in records)


def test_the_command_counts_them(tmp_path, capsys):
    write_subject(tmp_path / "cup", 3, {0: "a cup"})
    with pytest.raises(SystemExit) as stopped:
        main(["check", str(tmp_path)])
    assert stopped.value.code == 0
    assert "2 entries: 2 good, 0 bad" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("count", "captions", "message"),
    [
        (0, {}, "without pictures: expected a list's file, or a folder of subjects"),
        (1, {0: "a cup"}, "has one picture, expected two or more"),
        (2, {}, r"has no caption: expected one beside each target, such as .*00\.txt"),
        (2, {0: " \n"}, r"00\.txt is empty"),
        (2, {0: "a" * (MAX_CAPTION + 1)}, "is not a caption: it has over 64 KiB"),
    ],
)
def test_what_is_not_a_subject_is_refused(count, captions, message, tmp_path):
    write_subject(tmp_path / "cup", count, captions)
    with pytest.raises(DataError, match=message):
        read_list(tmp_path)


def test_a_caption_of_another_encoding_is_refused(tmp_path):
    write_subject(tmp_path, 2, {})
    (tmp_path / "00.txt").write_bytes("Häuser".encode("latin-1"))
    with pytest.raises(DataError, match=r"00\.txt is not UTF-8 text \(.* at byte 1\)"):
        read_list(tmp_path)
