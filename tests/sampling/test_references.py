"""The forms in which `generate` takes prompts and references."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uno_jax.sampling.references import as_prompts, as_references
from uno_jax.support.images import ImageError

RED, BLUE = (Image.new("RGB", (32, 32), colour) for colour in ("red", "blue"))


@pytest.fixture
def file(tmp_path) -> Path:
    RED.save(tmp_path / "red.png")
    return tmp_path / "red.png"


def colours(refs, prompts: int) -> list[str]:
    """A letter for each reference of each prompt."""
    names = {(255, 0, 0): "r", (0, 0, 255): "b"}
    return ["".join(names[ref.getpixel((0, 0))] for ref in each) for each in as_references(refs, prompts)]


@pytest.mark.parametrize(
    ("refs", "prompts", "expected"),
    [
        (None, 2, ["", ""]),
        (RED, 1, ["r"]),
        (RED, 2, ["r", "r"]),
        ([], 1, [""]),
        ([RED], 1, ["r"]),
        ([RED, BLUE], 1, ["rb"]),
        ((RED, BLUE), 1, ["rb"]),
        ([[RED, BLUE]], 1, ["rb"]),
        ([(RED, BLUE)], 1, ["rb"]),
        ([RED, BLUE], 2, ["r", "b"]),
        ([[RED, BLUE], BLUE], 2, ["rb", "b"]),
        ([[], [BLUE]], 2, ["", "b"]),
    ],
)
def test_pictures(refs, prompts, expected):
    assert colours(refs, prompts) == expected


def test_paths(file):
    for refs in (file, str(file), [file], [str(file)], [[file]]):
        assert colours(refs, 1) == ["r"]
    assert colours([[file, BLUE], [str(file)]], 2) == ["rb", "r"]


@pytest.mark.parametrize(
    ("refs", "prompts", "message"),
    [
        ([[], []], 1, "1 prompt but references for 2"),
        ([RED], 2, "2 prompts but references for 1"),
        ([], 2, "2 prompts but references for 0"),
        (3, 1, "got int"),
        ({"dog": RED}, 1, "refs must be a picture .* got dict"),
        (np.zeros((4, 4, 3)), 1, "got numpy.ndarray"),
        ([np.zeros((4, 4, 3))], 1, "reference 1 of prompt 1 must be a picture .* got numpy.ndarray"),
        ([[RED, None]], 1, "reference 2 of prompt 1 .* got NoneType"),
        ([[RED], 7], 2, "reference 1 of prompt 2 .* got int"),
        ([[[RED]]], 1, "reference 1 of prompt 1 .* got list"),
        (b"red.png", 1, "got bytes"),
    ],
)
def test_other_forms_are_refused(refs, prompts, message):
    with pytest.raises(ValueError, match=message):
        as_references(refs, prompts)


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(ImageError, match="text.png: not a picture"):
        as_references([tmp_path / "text.png"], 1)
    with pytest.raises(FileNotFoundError, match="none.png: no such picture"):
        as_references(str(tmp_path / "none.png"), 1)


def test_prompts():
    assert as_prompts("a dog") == ["a dog"] and as_prompts(("a", "b")) == ["a", "b"]
    for wrong, message in ((None, "got NoneType"), ({"a"}, "got set"), (["a", 3], "prompt 2 must be a str")):
        with pytest.raises(ValueError, match=message):
            as_prompts(wrong)
