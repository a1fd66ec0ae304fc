"""Arguments that `uno-toybox` cannot use."""

import pytest

from tests.bad_input.outputs import bad_folders
from uno_jax.toybox.__main__ import main

OUT = ["--out", "new"]
CASES = [
    *bad_folders("--out"),
    ([], "Missing from uno-toybox: --out"),
    (["--out", "model"], "--out model is not empty"),
    ([*OUT, "--kind", "x"], "invalid choice 'x' for argument '--kind'"),
    ([*OUT, "--split", "x"], "--split"),
    ([*OUT, "--references", "5"], "--references"),
    ([*OUT, "--references", "2", "--kind", "diptychs"], "--references is for pairs"),
    ([*OUT, "--alike", "place", "--kind", "text-image"], "--alike is for pairs and diptychs"),
    ([*OUT, "--alike", "picture", "--references", "2"], "--alike picture is for one reference"),
    ([*OUT, "--crop-second"], "--crop-second is for --references 2"),
    ([*OUT, "--subjects", ""], "the path is empty"),
    ([*OUT, "--subjects", "none"], "none/manifest.json not found"),
    ([*OUT, "--subjects", "a.png"], "a.png"),
    ([*OUT, "--count", "x"], "--count"),
    ([*OUT, "more"], "Unrecognized options: more"),
]


@pytest.mark.parametrize(("arguments", "message"), CASES)
def test_refused(arguments, message, refused):
    assert message in refused(main, arguments)
