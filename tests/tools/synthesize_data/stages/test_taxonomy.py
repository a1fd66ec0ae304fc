"""Categories: the shipped list, lists of one's own, and what is wrong with the others."""

import json
from pathlib import Path

import pytest

from tools.common.errors import ToolError
from tools.synthesize_data.config import TaxonomyConfig
from tools.synthesize_data.stages.taxonomy import choose_groups

MANIFEST = Path(__file__).parents[4] / "uno_jax" / "toybox" / "assets" / "manifest.json"


def own_list(folder: Path, content: str) -> TaxonomyConfig:
    path = folder / "list.json"
    path.write_text(content, encoding="utf-8")
    return TaxonomyConfig(str(path))


def test_objects365_is_there_in_groups_and_passes_its_own_check():
    groups = choose_groups(TaxonomyConfig())
    assert sum(map(len, groups.values())) == 365
    assert len(groups) > 5
    assert "dog" in groups["animals"]


def test_groups_can_be_chosen():
    assert list(choose_groups(TaxonomyConfig(groups=("music", "animals")))) == ["animals", "music"]


def test_an_unknown_group_names_the_known_ones():
    with pytest.raises(ToolError, match="no group 'beasts'; it has people, .*animals"):
        choose_groups(TaxonomyConfig(groups=("beasts",)))


def test_a_list_of_ones_own(tmp_path):
    own = {"Küche": ["Topf", "tea pot"], "toys": ["kite"]}
    assert choose_groups(own_list(tmp_path, json.dumps(own, ensure_ascii=False))) == own


def test_the_toyboxs_training_subjects():
    groups = choose_groups(TaxonomyConfig("toybox"))
    manifest = json.loads(MANIFEST.read_text())
    train = {subject["name"] for subject in manifest if subject["split"] == "train"}
    val = {subject["name"] for subject in manifest if subject["split"] == "val"}
    listed = [name for names in groups.values() for name in names]
    assert set(listed) == train and not set(listed) & val
    assert len(listed) == len(train)


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "expected a JSON object"),
        ('["dog"]', r'holds \["dog"\]; expected a JSON object'),
        ("{}", "holds {}"),
        ('{"animals": "dog"}', "group 'animals' holds \"dog\""),
        ('{"animals": []}', r"group 'animals' holds \[\]"),
        ('{"animals": ["dog", 3]}', "group 'animals': 3 is not a valid category"),
        ('{"animals": ["dog", " "]}', "' ' is not a valid category"),
        ('{"animals": ["do\\ng"]}', "is not a valid category"),
        ('{" ": ["dog"]}', "is not a valid group name"),
        (
            '{"animals": ["dog"], "pets": ["cat", "The Dog"]}',
            "duplicate category 'The Dog', in groups 'animals' and 'pets'",
        ),
        ('{"animals": ["dog"], "animals": ["cat"]}', "has the name 'animals' twice"),
    ],
)
def test_a_bad_list_is_told(tmp_path, content, message):
    with pytest.raises(ToolError, match=message):
        choose_groups(own_list(tmp_path, content))


def test_a_list_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(ToolError, match="none.json cannot be read: no such file"):
        choose_groups(TaxonomyConfig(str(tmp_path / "none.json")))
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ToolError, match="is not UTF-"):
        choose_groups(TaxonomyConfig(str(tmp_path / "bytes.json")))
