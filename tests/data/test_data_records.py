"""Reading lists: both forms, scores, sizes, mixtures, other file systems, and what is refused."""

import json
import os

import fsspec
import numpy as np
import pytest

from tests.lists import write_json, write_list, write_picture
from uno_jax.data.config import DataConfig, SourceConfig
from uno_jax.data.entries import DataError
from uno_jax.data.records import concatenate, each_picture, parse_source, read_list, read_records
from uno_jax.support.errors import FileKindError


def label(score, **changes):
    return {
        "img_path1": "a.png",
        "img_path2": "b.png",
        "caption": {"img_path1": "one", "img_path2": "two", "judgment": "same", "subject": ["cup"]},
        "vlm_filter_cot": {"score_part": {"cup": 4}, "score_final": score},
        **changes,
    }


@pytest.fixture
def labels(tmp_path):
    write_picture(tmp_path / "a.png", 1)
    write_picture(tmp_path / "b.png", 2)
    return write_json(tmp_path / "labels.json", [label(s) for s in (4, 3.5, 131184.67, "4", None, 4.0)])


def test_labels_are_taken_by_score_and_corrupt_ones_counted(labels, tmp_path):
    records = read_records(DataConfig(sources=(SourceConfig(str(labels)),), max_bad_share=0.5))
    assert [record[:3] for record in records] == [("two", (f"{tmp_path}/a.png",), f"{tmp_path}/b.png")] * 2
    assert records.entry.tolist() == [0, 5] and records.sources[0].below_score == 1
    assert set(records.sources[0].bad) == {2, 3, 4} and "131184.67" in records.sources[0].bad[2]
    assert len(parse_source(SourceConfig(str(labels), min_score=3.5))) == 3
    with pytest.raises(DataError, match="has 3 bad records of 6: record 2: corrupt score"):
        read_list(labels)


def test_pairs_with_scores_are_taken_by_them_where_a_threshold_is_named(tmp_path):
    path = write_list(tmp_path, 4)
    entries = json.loads(path.read_text())
    for entry, score in zip(entries, (0, 3, 3.5, "high"), strict=True):
        entry["score"] = score
    write_json(path, entries)
    assert len(read_list(path)) == 4
    source = parse_source(SourceConfig(str(path), min_score=3.5))
    assert source.entry.tolist() == [2] and source.sources[0].below_score == 2
    assert 'must be between 0 and 4, got "high"' in source.sources[0].bad[3]
    unscored = parse_source(SourceConfig(str(write_list(tmp_path, 2)), min_score=3.5))
    assert '"score" must be between 0 and 4, got null' in unscored.sources[0].bad[0]


def test_a_threshold_that_leaves_nothing_says_so(tmp_path):
    path = write_json(tmp_path / "labels.json", [label(1), label(2)])
    with pytest.raises(DataError, match="scores of all 2 are below 4"):
        read_list(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt": " "}, "prompt is empty"),
        ({"image_paths": ["t0.png"] * 5}, "5 references, at most 4"),
        ({"image_paths": [3]}, "must be a list of paths"),
        ({"image_tgt_path": ""}, '"image_tgt_path" is empty'),
        ({"image_tgt_mask_path": ""}, '"image_tgt_mask_path" is empty'),
        ({"prompt": "a\0b"}, "NUL"),
        ({"image_sizes": [[1, 2]]}, "must be 2 pairs"),
        ({"image_sizes": [[1, 2], [0, 3]]}, "must be 2 pairs"),
        ({"image_sizes": "big"}, "must be 2 pairs"),
        ({"prompt": "a dog \ud83d"}, "invalid Unicode"),
        ({"image_tgt_path": "foo://bucket/a.png"}, "no picture at foo://bucket/a.png"),
        (label(4, caption=None), 'must hold the text of "img_path2"'),
        (label(4, img_path2=None), '"img_path2" must be a path, got null'),
        (label(4, img_path1=3), '"img_path1" must be a path, got 3'),
        ({"image_paths": None}, "must be a list of paths"),
        ({"image_sizes": [["32", "32"], [32, 32]]}, "must be 2 pairs"),
        ({"image_sizes": [[True, True], [32, 32]]}, "must be 2 pairs"),
        ({"image_sizes": [[32, float("nan")], [32, 32]]}, "must be 2 pairs"),
        ({"image_sizes": [[10**400, 1], [32, 32]]}, "must be 2 pairs"),
        ({"image_sizes": {"a": 1}}, "must be 2 pairs"),
        ({"image_sizes": [{"width": 1, "height": 1}] * 2}, "must be 2 pairs"),
        ({"image_tgt_path": "pictures\\t.png"}, "write folders with /, not with backslashes"),
        (label(True), "corrupt score"),
        (label(4, vlm_filter_cot=[]), "corrupt score"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_entries_have_reasons(tmp_path, change, reason):
    entry = json.loads(write_list(tmp_path, 1).read_text())[0]
    with pytest.raises(DataError, match=reason):
        read_list(write_json(tmp_path / "list.json", [{**entry, **change}]))


@pytest.mark.parametrize(
    ("lacking", "written", "hint"),
    [
        ("image_paths", "imag_paths", "image_path"),
        ("image_paths", "image_pathes", "image_path"),
        ("image_paths", "imagepath", "image_path"),
        ("image_tgt_path", "image_target_path", "image_tgt_path"),
        ("image_tgt_path", "Image_Tgt_Path", "image_tgt_path"),
        ("prompt", "promt", "prompt"),
        ("prompt", "caption", ""),
    ],
)
def test_a_misspelt_key_is_named_with_the_right_one(tmp_path, lacking, written, hint):
    entry = json.loads(write_list(tmp_path, 1).read_text())[0]
    entry[written] = entry.pop(lacking)
    expected = f'key "{written}": did you mean "{hint}' if hint else f'"{lacking}" is missing; .*{written}'
    with pytest.raises(DataError, match=expected):
        read_list(write_json(tmp_path / "list.json", [entry]))


def test_keys_of_other_programs_are_ignored(tmp_path):
    entry = json.loads(write_list(tmp_path, 1).read_text())[0]
    others = {"scores": [1], "image_size": [8, 8], "id": 2**70, "meta": {"prompt": 3}, "img": None}
    records = read_list(write_json(tmp_path / "list.json", [entry | others]))
    assert list(records) == list(read_list(write_list(tmp_path, 1)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("lines", [False, True])
def test_lists_of_either_form_and_any_encoding_give_the_same_records(tmp_path, lines, encoding):
    path = write_list(tmp_path, 3)
    records = list(read_list(path))
    if lines:
        text = "\n".join(json.dumps(entry) for entry in json.loads(path.read_text()))
    else:
        text = path.read_text()
    path.write_text(text, encoding=encoding)
    assert list(read_list(path)) == records


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a pipe"])
def test_what_is_no_regular_file_is_refused_unread(tmp_path, kind):
    path = tmp_path / "list.json"
    if kind == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    for name in (path, f"file://{path}"):
        with pytest.raises(FileKindError, match="list.json is a .*, expected a file"):
            read_list(name)


@pytest.mark.parametrize("place", ["labels.json", "labels/split1.json"])
def test_the_pictures_of_uno_1m_lie_in_images(tmp_path, place):
    (tmp_path / "images/split1").mkdir(parents=True)
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    names = [write_picture(tmp_path / "images/split1" / f"{name}.png", 1) for name in "ab"]
    one, two = (f"split1/{name}" for name in names)
    (record,) = read_list(write_json(path, [label(4, img_path1=one, img_path2=two)]))
    assert record.target == f"{tmp_path}/images/split1/b.png"


def test_few_bad_entries_and_missing_pictures_do_not_stop_a_run(tmp_path):
    path = write_list(tmp_path, 4)
    (tmp_path / "t2.png").unlink()
    with pytest.raises(DataError, match="has 1 bad record of 4: record 2: no picture at .*t2.png"):
        read_list(path)
    assert len(read_list(path, max_bad_share=0.25)) == 4


def test_fingerprints_are_those_of_version_0_1(tmp_path):
    """Encodings and checkpoints hold them: with another they would be refused."""
    entries = [
        {
            "prompt": "a clock on the beach",
            "image_tgt_path": "1.png",
            "image_paths": ["2.png", "3.png"],
            "image_sizes": [[512, 320], [320, 512], [64, 64]],
            "score": 4,
        },
        {"prompt": "a café at dawn 😀", "image_tgt_path": "4.png", "image_path": "5.png"},
        {"prompt": "no reference", "image_tgt_path": "6.png"},
    ]
    path = str(write_json(tmp_path / "list.json", entries))
    whole, half = (
        parse_source(SourceConfig(path, **more)) for more in ({}, {"weight": 0.5, "size": (128, 256)})
    )
    both = concatenate([whole, half])
    assert whole.fingerprint() == "c3714b21"
    assert both.fingerprint() == "2ecbd12c"
    assert each_picture(both).fingerprint() == "bac600e7"


def test_lists_are_read_from_any_file_system(tmp_path):
    path = write_list(tmp_path, 2)
    store = fsspec.filesystem("memory")
    for file in tmp_path.iterdir():
        store.pipe(f"/bucket/{file.name}", file.read_bytes())
    remote = read_list("memory://bucket/list.json")
    assert remote[1].target == "memory://bucket/t1.png" and remote[1].prompt == read_list(path)[1].prompt
    with pytest.raises(FileNotFoundError, match="no list of records at memory://bucket/none.json"):
        read_list("memory://bucket/none.json")


def test_pictures_may_be_in_another_folder(tmp_path):
    path = write_list(tmp_path, 1)
    (tmp_path / "lists").mkdir()
    moved = path.rename(tmp_path / "lists" / "list.json")
    records = read_records(DataConfig(sources=(SourceConfig(str(moved), root=str(tmp_path)),)))
    assert records[0].target == f"{tmp_path}/t0.png"


def test_every_picture_is_a_target_once(tmp_path):
    first, second = tmp_path / "one", tmp_path / "two"
    first.mkdir(), second.mkdir()
    sources = (SourceConfig(str(write_list(first, 2, refs=3))), SourceConfig(str(write_list(second, 1))))
    records = read_records(DataConfig(sources=sources))
    assert [len(record.refs) for record in records] == [3, 3, 1]
    pictures = each_picture(records)
    assert len(pictures) == 6 and {p.prompt for p in pictures} == {""} and not pictures.refs.any()
    assert pictures[5].target == f"{second}/r0.png" and pictures.name(5) == f"{second}/list.json record 0"
    assert np.isnan(pictures.ratios).all()
