"""Names of LoRAs with strengths, and how they are recorded."""

from pathlib import Path

import pytest

from uno_jax.sampling.results import common_record
from uno_jax.weights.identity import weights_id
from uno_jax.weights.loras import Placed, find_loras, split_strength
from uno_jax.weights.names import FOLDER


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("style.safetensors:0.8", ("style.safetensors", 0.8)),
        ("a/b:-1", ("a/b", -1.0)),
        ("owner/name:sub/file.safetensors:.5", ("owner/name:sub/file.safetensors", 0.5)),
        ("owner/name:file.safetensors", ("owner/name:file.safetensors", 1.0)),
        ("auto:1e-1", ("auto", 0.1)),
        ("a:b", ("a:b", 1.0)),
        ("a:", ("a:", 1.0)),
        ("a:2x", ("a:2x", 1.0)),
    ],
)
def test_a_strength_is_a_number_at_the_end(name, expected):
    assert split_strength(name) == expected


def test_a_path_that_exists_is_not_split(tmp_path):
    (tmp_path / "style:2").mkdir()
    assert split_strength(str(tmp_path / "style:2")) == (str(tmp_path / "style:2"), 1.0)
    assert split_strength(f"{tmp_path / 'style:2'}:3") == (str(tmp_path / "style:2"), 3.0)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("a:nan", "the strength of the LoRA a:nan must be a finite number"),
        ("a:-inf", "must be a finite number"),
        ("a:101", "must be at most 100, got 101"),
        (["a", "none"], 'the LoRA "none" stands alone'),
        ("small-cached:strong", "the strength of the LoRA small-cached must be a number, got 'strong'"),
        ("none:0.5", "there is no LoRA for the strength of none:0.5"),
    ],
)
def test_refusals(names, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        find_loras(names, tmp_path)


def test_all_are_recorded_with_strength_and_hash():
    own = FOLDER / "lora"
    assert find_loras((), FOLDER) == find_loras("auto", FOLDER) == [Placed(own)]
    assert find_loras(["auto:0.5", Path("a:2")], FOLDER) == [Placed(own, 0.5), Placed(Path("a:2"))]
    single = common_record("small", ("auto",), "float32", "")
    assert (single["lora"], single["lora_id"]) == (str(own), weights_id(own)) and "loras" not in single
    several = common_record("small", ("auto", "auto:0.5"), "float32", "")
    expected = [{"path": str(own), "id": weights_id(own), "strength": each} for each in (1.0, 0.5)]
    assert several["loras"] == expected and "lora" not in several
