"""Ids, and manifests that survive a crash in the middle of a line."""

from dataclasses import dataclass

import pytest

from tools.common.errors import ToolError
from tools.common.manifest import Manifest, Row, id_settings, identity, not_in_id


@dataclass(frozen=True)
class Inner:
    threshold: float = not_in_id(0.5)
    model: str = "a"


@dataclass(frozen=True)
class Settings:
    inner: Inner = Inner()
    sizes: tuple[int, ...] = (1, 2)
    batch_size: int = not_in_id(4)


ROWS = [Row(f"id{number}", {"parent": "", "number": number}, {"twice": 2 * number}) for number in range(3)]


def test_an_id_follows_what_counts_and_nothing_else():
    base = identity("split", Settings(), {"parent": "x"})
    assert base == identity("split", Settings(Inner(threshold=0.9), batch_size=8), {"parent": "x"})
    others = {
        identity("split", Settings(Inner(model="b")), {"parent": "x"}),
        identity("split", Settings(sizes=(1,)), {"parent": "x"}),
        identity("split", Settings(), {"parent": "y"}),
        identity("generate", Settings(), {"parent": "x"}),
    }
    assert len(others | {base}) == 5
    assert id_settings(Settings()) == {"inner": {"model": "a"}, "sizes": [1, 2]}


def test_an_id_does_not_follow_the_order_of_the_inputs():
    assert identity("s", None, {"a": 1, "b": 2}) == identity("s", None, {"b": 2, "a": 1})


def test_rows_are_read_back(tmp_path):
    manifest = Manifest(tmp_path / "manifest/split.jsonl")
    assert manifest.read() == {}
    manifest.append(ROWS[:2])
    manifest.append([Row("id2", {"parent": "é"}, None, "no seam")])
    rows = manifest.read()
    assert rows["id1"] == ROWS[1]
    assert rows["id2"].failed == "no seam" and rows["id2"].inputs == {"parent": "é"}


@pytest.mark.parametrize("torn", [1, 20, 60])
def test_a_torn_last_row_is_forgotten(tmp_path, torn):
    manifest = Manifest(tmp_path / "split.jsonl")
    manifest.append(ROWS)
    content = manifest.path.read_bytes()
    manifest.path.write_bytes(content[:-torn])
    assert list(manifest.read()) == ["id0", "id1"]
    manifest.cut_torn_line()
    manifest.append(ROWS[2:])
    assert manifest.path.read_bytes() == content


def test_dropped_rows_are_gone_and_the_others_stay(tmp_path):
    manifest = Manifest(tmp_path / "split.jsonl")
    manifest.append(ROWS)
    manifest.drop(["id1"])
    assert list(manifest.read()) == ["id0", "id2"]
    assert [path.name for path in tmp_path.iterdir()] == ["split.jsonl"]


def test_the_same_id_twice_is_an_error(tmp_path):
    manifest = Manifest(tmp_path / "split.jsonl")
    manifest.append(ROWS[:1] * 2)
    with pytest.raises(ToolError, match="line 2: duplicate id id0"):
        manifest.read()


@pytest.mark.parametrize("line", ["not json", "[1]", '{"id": "a"}', '{"id": "a", "inputs": {}, "other": 1}'])
def test_a_foreign_line_is_named(tmp_path, line):
    path = tmp_path / "split.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ToolError, match=r"split\.jsonl, line 1, is not a row"):
        Manifest(path).read()
