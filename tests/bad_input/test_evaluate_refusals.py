"""Arguments that `uno-evaluate` cannot use."""

import pytest

from tests.bad_input.outputs import bad_folders
from uno_jax.evaluate import main

SINGLE = ["dreambench-single", "--data", "empty"]
CASES = [
    *((["toybox", *words], message) for words, message in bad_folders("--out")),
    *(([*SINGLE, *words], message) for words, message in bad_folders("--out")),
    (["none"], "none"),
    (["--suite", "none"], "none"),
    (["--suite"], "expected one argument"),
    (["toybox", "--out", "model"], "model is not empty"),
    (["toybox", "--scorer", ""], "the path is empty"),
    (["toybox", "--scorer", "none"], "no scorer weights none"),
    (["toybox", "--scorer", "a.png"], "no scorer weights a.png"),
    (["toybox", "--subjects", "none"], "none/manifest.json not found"),
    (["toybox", "--data", "x"], "--data"),
    (["dreambench-single"], "Missing from uno-evaluate dreambench-single: --data"),
    (["dreambench-single", "--data", ""], "the path is empty"),
    (["dreambench-single", "--data", "none"], "no folder none"),
    (["dreambench-single", "--data", "a.png"], "no folder a.png"),
    (SINGLE, "photos in empty"),
    ([*SINGLE, "--lists", "none"], "none"),
    ([*SINGLE, "--lists", "text.txt"], "text.txt"),
    ([*SINGLE, "--subjects", "3"], "--subjects"),
    (["dreambench-multi", "--data", "empty"], "photos in empty"),
    *((["list", "--lists", "pairs.json", *words], message) for words, message in bad_folders("--out")),
    (["list"], "Missing from uno-evaluate list: --lists"),
    (["list", "--lists", "none"], "no list of records at none"),
    (["list", "--lists", "text.txt"], "text.txt"),
    (["list", "--lists", "empty"], "empty must hold Parquet files"),
    (["list", "--lists", "pairs.json", "--encoders", "none"], "no encoder none/dino/vit"),
]


@pytest.mark.parametrize(("arguments", "message"), CASES)
def test_refused(arguments, message, refused):
    assert message in refused(main, arguments)
