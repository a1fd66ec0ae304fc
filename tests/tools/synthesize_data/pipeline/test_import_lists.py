"""Pairs that others made, in their own forms, become rows for the filters; near-duplicates are found."""

import io
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tools.common.errors import ToolError
from tools.common.manifest import Row
from tools.synthesize_data.config_files import load_config
from tools.synthesize_data.pipeline.image_files import load_image
from tools.synthesize_data.pipeline.import_lists import cut_halves, import_list, imported_pairs
from tools.synthesize_data.pipeline.run import Run
from tools.synthesize_data.stages.order import STAGES
from tools.synthesize_data.stages.perceptual_hashes import near_duplicates
from uno_jax.support.errors import FileKindError

LABEL = {
    "img_path1": "a/1.png",
    "img_path2": "a/2.png",
    "caption": {
        "img_path1": "a mug",
        "img_path2": "a mug on the beach",
        "judgment": "same",
        "subject": ["mug"],
    },
    "vlm_filter_cot": {"score_part": {"handle": 4}, "score_final": 4},
}


def noise(seed: int, width: int = 64, height: int = 64) -> Image.Image:
    cells = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    return Image.fromarray(cells).resize((width, height), Image.Resampling.NEAREST)


def put_pictures(folder, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        noise(0).save(folder / name)


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run", load_config("small"), STAGES)


def test_uno_1m_labels_become_pairs(run, tmp_path, capsys):
    corrupt = {"img_path1": "a/3.png", "img_path2": "a/4.png"}
    strange = {**LABEL, "vlm_filter_cot": {"score_final": 131184.67}, "img_path2": "a/9.png"}
    path = tmp_path / "labels.json"
    path.write_text(json.dumps([LABEL, corrupt, strange, "no entry"]))
    put_pictures(tmp_path / "a", "1.png", "2.png", "9.png")
    import_list(run, path)
    first, second = imported_pairs(run)
    assert first.inputs["subject"] == "mug" and first.inputs["prompt"] == "a mug on the beach"
    assert first.result == {
        "first": str(tmp_path / "a/1.png"),
        "second": str(tmp_path / "a/2.png"),
        "score": 4,
    }
    assert second.result["second"].endswith("a/9.png")
    said = capsys.readouterr().out
    assert "4 new rows, 2 of them cannot be used" in said and "KeyError: 'caption'" in said


def test_half_of_a_character_makes_an_entry_unusable(run, tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps([LABEL, {**LABEL, "img_path1": "a/\ud83d.png"}]))
    put_pictures(tmp_path / "a", "1.png", "2.png")
    import_list(run, path)
    good, bad = run.manifest("import").read().values()
    assert good.result and "surrogates not allowed" in bad.failed


@pytest.mark.parametrize("list_folder", [".", "labels"])
def test_uno_1m_pictures_lie_in_images(run, tmp_path, list_folder):
    path = tmp_path / list_folder / "split1.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([LABEL]))
    put_pictures(tmp_path / "images/a", "1.png", "2.png")
    import_list(run, path)
    (pair,) = imported_pairs(run)
    assert pair.result["first"] == str(tmp_path / "images/a/1.png")


def test_a_missing_picture_is_told_and_found_later(run, tmp_path, capsys):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps([LABEL]))
    put_pictures(tmp_path / "a", "1.png")
    import_list(run, path)
    assert imported_pairs(run) == [] and f"no picture a/2.png beside {path}" in capsys.readouterr().out
    put_pictures(tmp_path / "a", "2.png", "3.png")
    import_list(run, path)
    assert [pair.result["second"] for pair in imported_pairs(run)] == [str(tmp_path / "a/2.png")]
    path.write_text(json.dumps([{**LABEL, "img_path2": "a/3.png"}]))
    import_list(run, path)
    assert [pair.result["second"] for pair in imported_pairs(run)] == [str(tmp_path / "a/3.png")]


def test_the_same_list_again_adds_nothing(run, tmp_path, capsys):
    path = tmp_path / "list.json"
    put_pictures(tmp_path, "1.png", "2.png")
    path.write_text(json.dumps([{"prompt": "a cup", "image_paths": ["1.png"], "image_tgt_path": "2.png"}]))
    import_list(run, path)
    import_list(run, path)
    assert len(run.manifest("import").read()) == 1
    assert "0 new rows" in capsys.readouterr().out


def test_a_pair_list_with_several_references_is_no_pair(run, tmp_path):
    entry = {"prompt": "a cup", "image_paths": ["1.png", "3.png"], "image_tgt_path": "2.png"}
    (tmp_path / "list.json").write_text(json.dumps([entry]))
    import_list(run, tmp_path / "list.json")
    (row,) = run.manifest("import").read().values()
    assert "2 references" in row.failed and imported_pairs(run) == []


def parquet(path, entries) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(entries), path)


def composite(padding: int = 8) -> tuple[bytes, Image.Image, Image.Image]:
    """As Subjects200K stores a pair: each panel of 64 with padding around it."""
    left, right, side = noise(1), noise(2), 64 + 2 * padding
    page = Image.new("RGB", (2 * side, side), "white")
    page.paste(left, (padding, padding))
    page.paste(right, (side + padding, padding))
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue(), left, right


def test_subjects200k_panels_are_cut_out(run, tmp_path):
    content, left, right = composite()
    told = {
        "item": "Mug",
        "description_0": "a mug",
        "description_1": "a mug in the snow",
        "category": "Kitchen",
    }
    quality = {"compositeStructure": 5, "objectConsistency": 5, "imageQuality": 5}
    good = {"image": {"bytes": content, "path": None}, "description": told, "quality_assessment": quality}
    torn = {**good, "image": {"bytes": content[:100], "path": None}}
    damaged = {**good, "image": {"bytes": content.replace(b"IDAT", b"\0\0\0\0"), "path": None}}
    parquet(tmp_path / "data/train-00000.parquet", [good, torn, damaged])
    import_list(run, tmp_path / "data")
    (pair,) = imported_pairs(run)
    assert pair.inputs["subject"] == "Mug" and pair.inputs["prompt"] == "a mug in the snow"
    assert pair.result["quality"]["objectConsistency"] == 5
    for name, panel in (("first", left), ("second", right)):
        assert np.array_equal(load_image(run.folder, pair.result[name]), panel)
    rows = run.manifest("import").read().values()
    assert [row.failed is None for row in rows] == [True, False, False]
    import_list(run, tmp_path / "data")
    assert len(run.manifest("import").read()) == 3
    import_list(run, tmp_path / "data/train-00000.parquet")  # the file by itself has the same rows
    assert len(run.manifest("import").read()) == 3


def test_only_padding_is_trimmed_and_not_a_plain_background():
    wide = Image.new("RGB", (200, 100), "grey")
    assert [half.size for half in cut_halves(wide)] == [(100, 100), (100, 100)]
    wide.paste(noise(3, 20, 20), (40, 40))
    assert cut_halves(wide)[0].size == (68, 68)  # 16 pixels a side at most


@pytest.mark.parametrize("line", [(64, 65), (63, 65), (61, 63), (66, 69), (58, 60)])
def test_a_white_line_at_the_seam_is_cut_off(line):
    page = noise(1, 128)
    page.paste("white", (line[0], 0, line[1], 64))
    file = io.BytesIO()
    page.save(file, "JPEG", quality=90)
    for half in cut_halves(Image.open(file).convert("RGB")):
        assert half.height == 64 and half.width >= 64 - 9
        assert np.quantile(np.asarray(half).min(-1), 0.1, axis=0).max() < 200


def test_a_white_wall_at_the_seam_is_kept():
    page = noise(1, 128)
    page.paste("white", (40, 0, 90, 64))
    page.paste(noise(2, 50, 4), (40, 0))  # so that it is not of one colour, as padding is
    assert [half.size for half in cut_halves(page)] == [(64, 64), (64, 64)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.json", "{", "list.json is not readable JSON at record 0: line 1"),
        ("list.json", "[]", "list.json must be a list of at least one record"),
        ("list.json", "3", "list.json is not readable JSON at record 0: line 1: expected"),
        ("list.json", "[1] 2", "list.json is not readable JSON .* more text after the end of the list"),
        ("list.json", '["\udcff"]', "list.json is not readable JSON: byte 2 is not UTF-8"),
        ("list.json", "[" * 200_000, "nested more than 64 deep"),
        ("rows.parquet", "PAR", "rows.parquet is not a Parquet file"),
        ("missing.json", None, "nothing to import"),
    ],
)
def test_sources_that_are_none(run, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content, errors="surrogateescape")
    with pytest.raises(ToolError, match=message):
        import_list(run, tmp_path / name)


def test_parquet_of_something_else(run, tmp_path):
    parquet(tmp_path / "data/a.parquet", [{"text": "x"}])
    with pytest.raises(ToolError, match="lacks the columns description, image"):
        import_list(run, tmp_path / "data")


def test_a_parquet_file_that_is_none_or_damaged_is_told_in_a_line(run, tmp_path):
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "a.parquet")
    (tmp_path / "device").mkdir()
    (tmp_path / "device" / "a.parquet").symlink_to("/dev/zero")
    for name, kind in (("pipe", "a named pipe"), ("device", "a device")):
        with pytest.raises(FileKindError, match=f"a.parquet is {kind}, expected a file"):
            import_list(run, tmp_path / name)
    path = tmp_path / "data/a.parquet"
    parquet(path, [{"image": {"bytes": bytes(1000)}, "description": {"item": str(i)}} for i in range(50)])
    content = bytearray(path.read_bytes())
    content[4:2000] = b"\xff" * 1996
    path.write_bytes(content)
    with pytest.raises(ToolError, match="a.parquet is damaged: [^\n]*$"):
        import_list(run, path)


def hashed(values: dict[str, int]) -> list[Row]:
    return [Row(name, {"picture": name}, {"phash": f"{value:016x}"}) for name, value in values.items()]


@pytest.mark.parametrize("distance", [0, 1, 4, 9])
def test_near_duplicates_are_those_within_the_distance(distance):
    rng = np.random.default_rng(distance)
    values = {f"base{i}": int(rng.integers(1 << 62)) for i in range(20)}
    for i in range(20):
        flips = rng.choice(64, distance + i % 2, replace=False)
        values[f"near{i}"] = values[f"base{i}"] ^ sum(1 << int(bit) for bit in flips)
    repeats = near_duplicates(hashed(values), distance)
    assert repeats == {f"near{i}": f"base{i}" for i in range(0, 20, 2)}
