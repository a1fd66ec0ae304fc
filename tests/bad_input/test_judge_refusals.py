"""Arguments that `uno-judge` cannot use."""

import pytest

from tests.bad_input.outputs import LONG, bad_folders
from tools.vlm_judge.__main__ import main

MODEL = ["--backend", "transformers", "--model", "none"]
LIST = [*MODEL, "--list", "pairs.json", "--pictures"]
CASES = [
    *(([*LIST, "pictures", *words], message) for words, message in bad_folders("--out")),
    ([], "judge.model is empty"),
    (MODEL, "pass either --evaluation DIR, or --list FILE"),
    ([*MODEL, "--evaluation", ""], "the path is empty"),
    ([*MODEL, "--evaluation", "none"], "no directory none"),
    ([*MODEL, "--evaluation", "a.png"], "no directory a.png"),
    ([*MODEL, "--evaluation", "empty"], "empty/scores.json"),
    ([*MODEL, "--evaluation", "torn"], "torn/scores.json"),
    ([*MODEL, "--evaluation", "torn", "--list", "pairs.json"], "pass either --evaluation"),
    ([*MODEL, "--list", "pairs.json"], "--list needs --pictures"),
    ([*LIST, "none"], "no directory none"),
    ([*LIST, "a.png"], "no directory a.png"),
    ([*LIST, "empty"], "missing 1 of 1 picture"),
    ([*LIST, "pictures", "--data", "none"], "missing 1 of 1 reference"),
    ([*MODEL, "--list", "empty", "--pictures", "pictures"], "empty"),
    ([*MODEL, "--list", "a.png", "--pictures", "pictures"], "a.png"),
    ([*MODEL, "--list", LONG * 20, "--pictures", "pictures"], "File name too long"),
    (["--backend", "x"], "invalid choice 'x'"),
    ([*MODEL, "--nonsense"], "Unrecognized options: --nonsense"),
]


@pytest.mark.parametrize(("arguments", "message"), CASES)
def test_refused(arguments, message, refused):
    assert message in refused(main, arguments)
