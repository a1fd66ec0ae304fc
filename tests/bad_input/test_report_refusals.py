"""Arguments that `uno-report` cannot use."""

import pytest

from tests.bad_input.outputs import LONG, bad_files
from uno_jax.report import main

CASES = [
    *((["finished", *words], message) for words, message in bad_files("--out", ".html")),
    (["finished", "--out", "empty"], "--out empty is a directory"),
    (["finished", "--out", "/dev/null"], "/dev/null is a device or a pipe"),
    ([], "name at least one RUN"),
    (["none"], "none: no such directory"),
    (["a.png"], "a.png: no such directory"),
    (["empty"], "empty: no scores.json"),
    (["torn"], "torn/scores.json"),
    (["finished", "none"], "none: no such directory"),
    (["finished", "finished"], "finished: named twice"),
    (["\udcff"], "no such directory"),
    ([LONG * 20], "File name too long"),
    (["finished", "--data", "none"], "no folder none"),
    (["finished", "--data", "a.png"], "no folder a.png"),
    (["finished", "--thumbnail", "x"], "--thumbnail"),
    (["finished", "--nonsense"], "Unrecognized options: --nonsense"),
]


@pytest.mark.parametrize(("arguments", "message"), CASES)
def test_refused(arguments, message, refused):
    assert message in refused(main, arguments)
