"""Arguments that `uno-data` cannot use."""

import pytest

from tests.bad_input.outputs import LONG, bad_files, bad_folders
from uno_jax.data.__main__ import main

CASES = [
    *((["check", "pairs.json", *words], message) for words, message in bad_files("--write", ".json")),
    *((["pack", "pairs.json", *words], message) for words, message in bad_folders("--out")),
    ([], "Expected one of {check, pack}"),
    (["chek"], "chek"),
    (["check"], "Missing from uno-data check"),
    (["check", "none"], "no list of records at none"),
    (["check", "empty"], "empty is a directory without pictures: expected a list's file, or a folder"),
    (["check", "a.png"], "a.png"),
    (["check", "text.txt"], "text.txt is not readable JSON"),
    (["check", LONG * 20], "File name too long"),
    (["check", "\udcff.json"], "no list of records"),
    (["check", "pairs.json", "--write", "empty"], "--write empty is a directory"),
    (["check", "pairs.json", "--write", "pipe.png"], "pipe.png is a device or a pipe"),
    (["check", "pairs.json", "--min-score", "x"], "--min-score"),
    (["check", "pairs.json", "more"], "Unrecognized options: more"),
    (["pack", "pairs.json"], "Missing from uno-data pack: --out"),
    (["pack", "none", "--out", "new"], "no list of records at none"),
    (["pack", "text.txt", "--out", "new"], "text.txt is not readable JSON"),
    (["pack", "pairs.json", "--out", "new", "--max-bad-share", "x"], "--max-bad-share"),
]


@pytest.mark.parametrize(("arguments", "message"), CASES)
def test_refused(arguments, message, refused):
    assert message in refused(main, arguments)
