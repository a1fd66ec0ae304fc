"""Arguments that `uno-train-small` cannot use."""

import pytest

from tests.bad_input.outputs import bad_folders
from uno_jax.train_small import main

CASES = [
    *bad_folders("--out"),
    (["--scorer", "none"], "no scorer weights none"),
    (["--scorer", "a.png"], "no scorer weights a.png"),
    (["--scorer", ""], "the path is empty"),
    (["--minutes.base", "x"], "--minutes.base"),
    (["--nonsense"], "Unrecognized options: --nonsense"),
]


@pytest.mark.parametrize(("arguments", "message"), CASES)
def test_refused(arguments, message, refused):
    assert message in refused(main, arguments)
