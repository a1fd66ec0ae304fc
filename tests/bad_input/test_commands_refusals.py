"""Arguments that `uno`, `uno-demo` and `uno-ceilings` cannot use."""

import pytest

from tests.bad_input.outputs import bad_folders
from uno_jax.__main__ import main

CASES = [
    *((["demo", *words], message) for words, message in bad_folders("--out")),
    (["demo", "--model", "none"], "no model directory none"),
    (["demo", "--model", ""], "the model's name is empty"),
    (["ceilings", "--scorer", "none"], "no scorer weights none"),
    (["ceilings", "--scorer", "a.png"], "no scorer weights a.png"),
    (["nope"], "no command 'nope'; there are sample, train"),
    (["sample"], "give either --prompt or --jobs"),
    (["convert"], "Missing subcommand"),
]


@pytest.mark.parametrize(("arguments", "message"), CASES)
def test_refused(arguments, message, refused):
    assert message in refused(main, arguments)
